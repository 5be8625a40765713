"""Images that are there more than once: in one part, with different classes, or in two parts."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cifar.data.duplicates import Pair, near_duplicates
from cifar.data.same_pixels import same_pixels
from cifar.inspection.findings import Finding, Kind
from cifar.inspection.survey import PARTS_BY_PRIORITY, Survey

EXACT = "exact copy"


@dataclass(frozen=True)
class Copy:
    """A sample `later` that is a copy of `first`, both indices. distance: 0 where they are equal in every pixel."""

    first: int
    later: int
    distance: float

    @property
    def value(self) -> str:
        return f"distance {self.distance:.2f}" if self.distance else EXACT


def with_near_duplicates(survey: Survey, features: Tensor | None, bar: bool = True) -> Survey:
    """The survey with its near duplicates; features: float32 (N, F), of the samples, or None.

    Of images that are equal, one is compared with others.
    """
    indices = np.array([first for first, *_ in equal(survey)], np.int64)
    pixels = torch.from_numpy(survey.small[indices].transpose(0, 3, 1, 2).copy())
    chosen = None if features is None else features[torch.from_numpy(indices)]
    with tqdm(desc="comparing images", unit="pair", disable=None if bar else True) as shown:

        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        pairs = near_duplicates(pixels, chosen, progress=progress)
    return replace(survey, near=tuple(_united([*pairs, *same_pixels(pixels)], indices.tolist())))


def _united(pairs: list[Pair], indices: list[int]) -> list[Pair]:
    """Each pair once, by the indices of samples, surest first."""
    least: dict[tuple[int, int], float] = {}
    for first, second, distance in pairs:
        key = (indices[first], indices[second])
        least[key] = min(distance, least.get(key, distance))
    return sorted((Pair(*key, distance) for key, distance in least.items()), key=lambda pair: pair.distance)


def equal(survey: Survey) -> list[list[int]]:
    """The readable samples in lists of equal ones, most lists of one; in the order of PARTS_BY_PRIORITY."""
    lists: defaultdict[bytes, list[int]] = defaultdict(list)
    for index in sorted(survey.readable.tolist(), key=lambda index: _order(survey, index)):
        lists[survey.known(index).digest].append(index)
    return list(lists.values())


def copies(survey: Survey) -> Iterator[Copy]:
    """Each sample with each one that it is a copy of, the surest first: of equal ones, the first and the one before."""
    for same in equal(survey):
        for position, later in enumerate(same[1:]):
            for first in sorted({same[0], same[position]}):
                yield Copy(first, later, 0.0)
    for pair in survey.near:
        first, later = sorted(pair[:2], key=lambda index: _order(survey, index))
        yield Copy(first, later, max(pair.distance, 1e-6))


def _order(survey: Survey, index: int) -> tuple[int, int, int]:
    """Of two copies, the one with the lower number stays: of the earlier part, else the larger, else the first."""
    measures = survey.known(index)
    return PARTS_BY_PRIORITY.index(survey.samples[index].part), -measures.width * measures.height, index


class CopyKind(Kind):
    """A kind of copies: one finding for each sample that is one, with the surest of those that it is a copy of."""

    def find(self, survey: Survey) -> list[Finding]:
        findings: dict[int, Finding] = {}
        for copy in copies(survey):
            if copy.later not in findings and self.holds(survey, copy):
                findings[copy.later] = self.of(survey, copy.later, copy.value, copy.first)
        return list(findings.values())

    @abstractmethod
    def holds(self, survey: Survey, copy: Copy) -> bool:
        """Whether this copy is one of this kind."""


class Duplicate(CopyKind):
    name, title = "duplicate", "Exact copies in one part"
    advice = "leave one of each out: they count twice, and may be split apart later"

    def holds(self, survey: Survey, copy: Copy) -> bool:
        return not copy.distance and _together(survey, copy)


class NearDuplicate(CopyKind):
    name, title = "near_duplicate", "Nearly the same picture, in one part"
    advice = "group them, so that a split keeps them together (distance: 0 the same, 0.2 hardly)"
    action = "group"
    property = "are nearly the same as another one"

    def holds(self, survey: Survey, copy: Copy) -> bool:
        return bool(copy.distance) and _together(survey, copy)


class ConflictingLabels(CopyKind):
    name, title = "conflicting_labels", "The same picture in two classes"
    advice = "one of the two labels is wrong: relabel it or leave it out"
    action = "relabel"

    def holds(self, survey: Survey, copy: Copy) -> bool:
        return _conflicts(survey, copy)


class Leak(CopyKind):
    name, title = "leak", "The same picture in two parts"
    advice = "what is measured on them is too good: group them, or leave one of the two out"

    def holds(self, survey: Survey, copy: Copy) -> bool:
        return _crosses(survey, copy)


def _together(survey: Survey, copy: Copy) -> bool:
    """Whether both are in one part and of one class, and not in one group of data.fixes."""
    first, later = (survey.groups.get(survey.samples[index].file) for index in (copy.first, copy.later))
    is_grouped = first is not None and first == later
    return not (_crosses(survey, copy) or _conflicts(survey, copy) or is_grouped)


def _crosses(survey: Survey, copy: Copy) -> bool:
    return survey.samples[copy.first].part != survey.samples[copy.later].part


def _conflicts(survey: Survey, copy: Copy) -> bool:
    return survey.samples[copy.first].label != survey.samples[copy.later].label

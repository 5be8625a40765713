"""Splits by what the images show (data.split=content), so that a split stays when images are added, removed or renamed.

Images of equal content, or of one group, are one unit, which is never divided. Each unit has a place in a fixed order:
by a hash of its content (its group) and the seed. A part takes units in that order up to its quota of each class, so
an image that is added or removed moves one other image at most, where no units of several images are in the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar.data.groups import joined, numbers_of
from cifar.data.images import DataError, Images, printable
from cifar.data.split_checks import check_classes, check_fits, check_limit

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """`of` (N,): the unit of each image, from 0; `members`: the classes of its images and their counts, by unit."""

    of: Indices
    classes: int
    members: list[list[tuple[int, int]]]

    @classmethod
    def build(cls, images: Images) -> Units:
        """Those of images whose digests are known."""
        units, labels = _units(images), images.labels.numpy()
        classes = len(images.classes)
        kinds, counts = np.unique(units * classes + labels, return_counts=True)
        members: list[list[tuple[int, int]]] = [[] for _ in range(int(units.max()) + 1)]
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            members[kind // classes].append((kind % classes, count))
        return cls(units, classes, members)

    def order(self, images: Images, purpose: str, seed: int) -> list[int]:
        """All units, by a hash of what they are of, the purpose and the seed."""
        keys = _keys(images, f"{purpose} {seed} ".encode())
        lowest = np.full(len(self.members), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(lowest, self.of, keys)
        order: list[int] = np.argsort(lowest, kind="stable").tolist()
        return order


def subset(images: Images, count: int | None, seed: int, parts: int = 2) -> Images:
    """About `count` images, with the shares of classes that all have; `images` itself for None or no more than that.

    It has `parts` images of each class at least, where no more of these have to stay together. Raises DataError where
    it would have none of a class.
    """
    if count is None or count >= len(images):
        return images
    check_limit(images, count, parts)
    quotas = quotas_of(images, count, parts, rest=0)
    taken = images.take(np.flatnonzero(chosen(images, quotas, "limit", seed, required=())))
    missing = np.flatnonzero(np.bincount(taken.labels.numpy(), minlength=len(images.classes)) == 0)
    if len(missing):
        raise DataError(
            f"data.limit={count}: no image of {printable(images.classes[missing[0]])} would be left, as its images are"
            " equal or of one group and stay together; allowed: a larger limit, or data.split=random"
        )
    return taken


def split(images: Images, size: float, seed: int, purpose: str = "val") -> tuple[Images, Images]:
    """(rest, part): of each class the share `size`, rounded; from 1 on, so many images in all. In file order.

    Parts for other purposes are drawn independently. Raises DataError where a class or either side is too small.
    """
    check_fits(images, size, f"{purpose}_size")
    return divided(images, quotas_of(images, size), purpose, seed)


def divided(images: Images, quotas: Indices, purpose: str, seed: int) -> tuple[Images, Images]:
    """(rest, part): a part with so many images of each class, as nearly as units allow; both in file order.

    A function of the digests, the labels, the groups and the arguments, whatever the files' names and order. Raises
    DataError where a class cannot be on both sides.
    """
    is_part = chosen(images, quotas, purpose, seed)
    return images.take(np.flatnonzero(~is_part)), images.take(np.flatnonzero(is_part))


def chosen(
    images: Images, quotas: Indices, purpose: str, seed: int, required: Collection[int] | None = None
) -> NDArray[np.bool_]:
    """Whether each image (N,) is in the part that `divided` makes. Raises as it does.

    `required`: the classes that must be on both sides, all by default.
    """
    units = Units.build(images)
    order = units.order(images, purpose, seed)
    selection = Selection(units, quotas, range(units.classes) if required is None else required)
    for unit in order:
        selection.take_if_it_fits(unit)
    selection.complete(order)
    is_part: NDArray[np.bool_] = selection.chosen[units.of]
    return is_part


def split_fold(images: Images, folds: int, fold: int, seed: int) -> tuple[Images, Images]:
    """(rest, part): the part is one of `folds`, from 0: of each class, a stretch of the order. In file order.

    Raises DataError where a fold lacks a class.
    """
    check_classes(images, folds)
    of = _folds(images, folds, seed)
    return images.take(np.flatnonzero(of != fold)), images.take(np.flatnonzero(of == fold))


def _folds(images: Images, folds: int, seed: int) -> Indices:
    """The fold of each image (N,). A unit is in that where the middle of its images of its largest class is."""
    units, labels = Units.build(images), images.labels.numpy()
    totals = np.bincount(labels, minlength=units.classes)
    passed = [0] * units.classes
    of = np.zeros(len(units.members), np.int64)
    for unit in units.order(images, "fold", seed):
        label, count = max(units.members[unit], key=lambda member: member[1])
        of[unit] = int((passed[label] + count / 2) * folds / totals[label])
        for member, count in units.members[unit]:
            passed[member] += count
    if len(np.unique(of[units.of] * units.classes + labels)) < folds * units.classes:
        raise _impossible(folds)
    return of[units.of]


def quotas_of(images: Images, size: float, least: int = 1, rest: int = 1) -> Indices:
    """How many images of each class are `size`: a share of each, rounded, or a number by the largest remainders.

    At least `least`, and `rest` are left. The number is one that is possible so.
    """
    counts = np.bincount(images.labels.numpy(), minlength=len(images.classes))
    most = counts - rest
    if size < 1:
        rounded: Indices = np.clip(np.floor(size * counts + 0.5), least, most).astype(np.int64)
        return rounded
    exact = size * counts / counts.sum()
    quotas: Indices = np.clip(np.floor(exact), least, most).astype(np.int64)
    while quotas.sum() != int(size):  # one more or one less where that is nearest to the exact number
        step = 1 if quotas.sum() < size else -1
        possible = (quotas < most) if step > 0 else (quotas > least)
        quotas[np.where(possible, step * (exact - quotas), -np.inf).argmax()] += step
    return quotas


class Selection:
    """The units that a part takes.

    By class: `missing`, the images that it lacks of its quotas; `taken` and `left`, units. `required`: the classes that
    must be on both sides.
    """

    def __init__(self, units: Units, quotas: Indices, required: Collection[int]) -> None:
        self.members = units.members
        self.missing: list[int] = quotas.tolist()
        self.required = [label for label in required if self.missing[label]]
        self.taken = [0] * units.classes
        self.left = [0] * units.classes
        for members in units.members:
            for label, _ in members:
                self.left[label] += 1
        self.chosen = np.zeros(len(units.members), bool)

    def take_if_it_fits(self, unit: int) -> None:
        if all(count <= self.missing[label] for label, count in self.members[unit]):
            self._take(unit)

    def complete(self, order: Sequence[int]) -> None:
        """Take units that are larger than what is missing, where that comes nearer to the quotas; then missing classes.

        Raises DataError where no unit has a class that is missing.
        """
        for unit in order:
            change = sum(abs(self.missing[c] - count) - abs(self.missing[c]) for c, count in self.members[unit])
            if change < 0 and self._can_spare(unit):
                self._take(unit)
        for label in self.required:
            if not self.taken[label]:
                fitting = (unit for unit in order if self._has(unit, label) and self._can_spare(unit))
                lowest = next(fitting, None)
                if lowest is None:
                    raise _impossible(2)
                self._take(lowest)

    def _has(self, unit: int, label: int) -> bool:
        return any(member == label for member, _ in self.members[unit])

    def _can_spare(self, unit: int) -> bool:
        """Whether each required class of the unit keeps one on the other side."""
        labels = [label for label, _ in self.members[unit] if label in self.required]
        return not self.chosen[unit] and all(self.left[label] > 1 for label in labels)

    def _take(self, unit: int) -> None:
        self.chosen[unit] = True
        for label, count in self.members[unit]:
            self.missing[label] -= count
            self.left[label] -= 1
            self.taken[label] += 1


def _impossible(parts: int) -> DataError:
    return DataError(
        f"data.split=content: a class cannot be in each of {parts} parts, as images of equal content, or of one group,"
        f" stay together; allowed: at least {parts} different images (groups) in each class, or data.split=random"
    )


def _units(images: Images) -> Indices:
    """int64 (N,): equal for images of equal content or of one group, from 0."""
    assert images.digests is not None
    of_content = np.unique(images.digests.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
    if images.groups is None:
        return of_content
    groups = np.unique(images.groups.numpy(), return_inverse=True)[1]
    positions = np.arange(len(images))
    return joined(len(images), np.tile(positions, 2), np.concatenate([of_content, of_content.max() + 1 + groups]))


def _keys(images: Images, prefix: bytes) -> NDArray[np.uint64]:
    """uint64 (N,): a hash of the group of each image, else of its digest."""
    numbers = numbers_of(images) if images.groups is None else images.groups
    rows = (number.tobytes() for number in numbers.numpy())
    digests = b"".join(hashlib.blake2b(prefix + row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<u8").astype(np.uint64)

"""Which predictions are too unsure to be used, so that of the others at most a stated share is wrong.

A prediction is unsure where the probability of its class is below a threshold. The threshold is set on labelled images
that nothing else was chosen on. Thresholds are tested from the highest to the lowest; each keeps more images. The first
whose upper bound (Clopper and Pearson, 1934) of the share of wrong predictions is above the allowed one ends the tests,
and the one before it is taken: fixed-sequence testing, in which all tests together err no more often than each alone
(Angelopoulos et al., Learn then Test, 2021, arXiv:2110.01052; Geifman and El-Yaniv, Selective Classification for Deep
Neural Networks, 2017, arXiv:1705.08500). The thresholds to be tested keep fixed numbers of images and do not depend on
which predictions are right. Imports no torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating]
CONFIDENCE = 0.95
"""The share of all sets of images of which the threshold keeps its promise."""
MAX_ERROR = 0.05
"""The share of wrong predictions that is allowed where nobody says another one."""
STEPS = 50
"""Thresholds that are tested, at most."""
TABLE = tuple(round(0.005 * step, 3) for step in range(1, 101))
"""The allowed shares of wrong predictions for which an exported model has a threshold."""
CALIBRATION, VALIDATION = "calibration", "validation"
"""The images that thresholds are set on; those for validation chose the epoch, so that figures of them are estimates."""


@dataclass(frozen=True)
class Threshold:
    """Of predictions with a probability of `probability` or more, at most `max_error` are wrong.

    `coverage`: the share of the images that it was set on which remain.
    """

    max_error: float
    probability: float
    coverage: float


@dataclass(frozen=True)
class Thresholds(ABC):
    """Thresholds that were set on `images` images of the part `part`, of any allowed share of wrong predictions."""

    part: str
    images: int

    @abstractmethod
    def at(self, max_error: float) -> Threshold | None:
        """The threshold for it; None where no promise can be made."""

    @property
    def is_estimate(self) -> bool:
        """Whether the images were used for other choices too."""
        return self.part != CALIBRATION


@dataclass(frozen=True)
class Outcomes(Thresholds):
    """Probabilities of the predicted classes (N,) and which are right (N,): all that thresholds depend on."""

    probabilities: Floats
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, part: str, probabilities: Floats, labels: NDArray[np.int64]) -> Outcomes:
        """From probabilities (N, classes) and labels (N,)."""
        right = probabilities.argmax(1) == labels
        return cls(part, len(labels), probabilities.max(1, initial=0.0), right)

    def at(self, max_error: float) -> Threshold | None:
        return threshold(self.probabilities, self.right, max_error)

    @cached_property
    def table(self) -> Table:
        """The thresholds of TABLE, as an exported model has them."""
        rows = [row for row in map(self.at, TABLE) if row is not None]
        return Table(self.part, self.images, tuple(rows))


@dataclass(frozen=True)
class Table(Thresholds):
    """Thresholds for some allowed shares of wrong predictions, in ascending order."""

    rows: tuple[Threshold, ...]

    def at(self, max_error: float) -> Threshold | None:
        """That of the largest share in the table that is not above it, so that its promise holds too."""
        return next((row for row in reversed(self.rows) if row.max_error <= max_error), None)

    def as_json(self) -> dict[str, Any]:
        """For the metadata of an exported model."""
        rows = [[row.max_error, row.probability, round(row.coverage, 6)] for row in self.rows]
        return {"part": self.part, "images": self.images, "confidence": CONFIDENCE, "thresholds": rows}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Table:
        rows = tuple(Threshold(*map(float, row)) for row in content["thresholds"])
        return cls(str(content["part"]), int(content["images"]), rows)


def threshold(
    probabilities: Floats, right: NDArray[np.bool_], max_error: float, confidence: float = CONFIDENCE
) -> Threshold | None:
    """The lowest threshold for which at most `max_error` of the predictions that remain are wrong.

    `probabilities` (N,) of the predicted classes, `right` (N,) whether these are the true ones. None where that cannot
    be had: with too few images, or too many mistakes among the surest predictions.
    """
    images = len(probabilities)
    if images < fewest_images(max_error, confidence):
        return None
    order = np.argsort(-probabilities, kind="stable")
    ordered = np.append(probabilities[order].astype(np.float64), 0.0)
    mistakes = np.cumsum(~right[order])
    kept = _kept(ordered, fewest_images(max_error, confidence))
    wrong = mistakes[kept - 1]
    passed = upper_bound(wrong, kept, confidence) <= max_error
    count = int(np.argmin(passed)) if not passed.all() else len(kept)
    if not count:
        return None
    last = int(kept[count - 1])
    lowest = 0.0 if last == images else float(ordered[last - 1] + ordered[last]) / 2
    return Threshold(max_error, lowest, last / images)


def _kept(ordered: Floats, fewest: int) -> NDArray[np.int64]:
    """How many images each threshold keeps, ascending; equal probabilities are all kept or none.

    The first keeps enough for a few mistakes: with the fewest images that can pass, a single one would end the tests.
    """
    images = len(ordered) - 1
    first = max(fewest, min(3 * fewest, images // 4))
    counts = np.linspace(first, images, STEPS).round().astype(np.int64)
    ends = np.append(np.flatnonzero(ordered[:-2] > ordered[1:-1]) + 1, images)
    return np.unique(ends[np.searchsorted(ends, counts)])


def upper_bound(wrong: NDArray[np.int64], images: NDArray[np.int64], confidence: float = CONFIDENCE) -> Floats:
    """The one-sided bound of the share of wrong predictions (Clopper and Pearson, 1934), of each pair of counts."""
    bound = stats.beta.ppf(confidence, wrong + 1, np.maximum(images - wrong, 1))
    return np.where(wrong == images, 1.0, bound)


def fewest_images(max_error: float, confidence: float = CONFIDENCE) -> int:
    """With fewer images no promise can be made, even if all predictions are right."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_error))

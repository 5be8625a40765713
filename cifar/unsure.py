"""Which predictions are too unsure to be used, so that of the others at most a stated share is wrong.

The field calls that selective prediction, and the share of the others coverage.

A prediction is unsure where the probability of its class is below a threshold. The threshold is set on labelled images
that nothing else was chosen on. Thresholds are tested from the highest to the lowest; each keeps more images. The first
whose upper bound (Clopper and Pearson, 1934) of the share of wrong predictions is above the allowed one ends the tests,
and the one before it is taken: fixed-sequence testing, in which all tests together err no more often than each alone
(Angelopoulos et al., Learn then Test, 2021, arXiv:2110.01052; Geifman and El-Yaniv, Selective Classification for Deep
Neural Networks, 2017, arXiv:1705.08500). The thresholds to be tested keep fixed numbers of images and do not depend on
which predictions are right.

An image is unlike those of training where its distance to them (cifar.unlike) is above that of 95% of such images.
Imports no torch.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating]
FALSE_ALARMS = 0.05
"""The share of images like those of training that are called unlike them."""
CONFIDENCE = 0.95
"""The share of all sets of images of which the threshold keeps its promise."""
MAX_ERROR = 0.05
"""The share of wrong predictions that is allowed where nobody says another one."""
STEPS = 50
"""Thresholds that are tested, at most."""
TABLE = (0.001, 0.002, 0.003, 0.004, *(round(0.005 * step, 3) for step in range(1, 101)))
"""The allowed shares of wrong predictions for which an exported model has a threshold."""
CALIBRATION, VALIDATION = "calibration", "validation"
"""The images that thresholds are set on; those for validation chose the epoch: of these, a threshold is an estimate."""


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

    @property
    def smallest(self) -> float:
        """The smallest allowed share for which there may be a threshold."""
        return 0.0

    @abstractmethod
    def at(self, max_error: float) -> Threshold | None:
        """The threshold for it; None where no promise can be made."""

    def facts(self, max_error: float) -> dict[str, Any]:
        """For result.json: null where no promise can be made."""
        threshold = self.at(max_error)
        values = {"probability": None, "coverage": None} if threshold is None else asdict(threshold)
        return {"part": self.part, "images": self.images, "confidence": CONFIDENCE, **values, "max_error": max_error}

    def in_words(self, max_error: float) -> str:
        """From which probability on at most `max_error` of the predictions are wrong, as far as that is known."""
        images = f"{self.images:,} {self.part} images"
        threshold = self.at(max_error)
        if threshold is None:
            fewest = fewest_images(max_error)
            reason = "of the surest, too many are wrong"
            if max_error < self.smallest:
                reason = f"the smallest that it was set for is {self.smallest:g}"
            if self.images < fewest:
                reason = f"it takes {fewest:,} images at least (data.calibration_size, data.val_size)"
            cause = f"an error of at most {max_error:.3g} cannot be promised by {images}: {reason}"
            return f"unsure: nothing is marked, as {cause}"
        promise = f"at most {threshold.max_error:.3g} of the others are wrong, with {CONFIDENCE:.0%} confidence"
        estimate = ""
        if self.part != CALIBRATION:
            estimate = ", an estimate, as they chose the epoch; data.calibration_size sets images apart for it"
        remain = f"{threshold.coverage:.1%} of {images} remain"
        return f"unsure: probability below {threshold.probability:.4f}; {promise}; {remain}{estimate}"


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

    @property
    def smallest(self) -> float:
        return TABLE[0]

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
    mistakes = np.cumsum(~right[order], dtype=np.int64)
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
    return math.ceil(min(math.log1p(-confidence) / math.log1p(-max_error), 1e18))


def largest_distance(distances: Floats, false_alarms: float = FALSE_ALARMS) -> float | None:
    """The distance that a share of at most `false_alarms` of further images exceeds; None with too few images.

    `distances` (N,) of images of the same kind. (The quantile of split conformal prediction: Vovk et al., 2005.)
    """
    rank = math.ceil((len(distances) + 1) * (1 - false_alarms))
    return float(np.sort(distances)[rank - 1]) if rank <= len(distances) else None


@dataclass(frozen=True)
class Reliability:
    """`thresholds` of probabilities; `largest`: the distance above which an image is unlike training; None: unknown."""

    thresholds: Thresholds
    largest: float | None

    @classmethod
    def of(cls, part: str, probabilities: Floats, labels: NDArray[np.int64], distances: Floats | None) -> Reliability:
        """From what a model gives for images with labels (N,): probabilities (N, classes) and distances (N,)."""
        largest = None if distances is None else largest_distance(distances)
        return cls(Outcomes.of(part, probabilities, labels), largest)

    def metadata(self) -> dict[str, str]:
        """For an exported model."""
        assert isinstance(self.thresholds, Outcomes)
        unlike = {"distance": self.largest, "false_alarms": FALSE_ALARMS}
        return {"unsure": json.dumps(self.thresholds.table.as_json()), "unlike": json.dumps(unlike)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Reliability | None:
        """None where an earlier version exported the model. Raises ValueError, KeyError or TypeError for others."""
        if "unsure" not in metadata:
            return None
        largest = json.loads(metadata["unlike"])["distance"]
        return cls(Table.from_json(json.loads(metadata["unsure"])), None if largest is None else float(largest))

"""The objective: the validation figure by which an epoch, a trial and a search are judged. Imports no torch.

balanced accuracy   the mean of the recalls of the classes: each counts the same, however many images it has
macro F1            the mean of their F1 scores, 2 hits / (images of the class + images predicted as it)

Both are means over the classes that the evaluated images have. A class without an image there has no recall, and is
left out even where images are predicted as it (which costs the recall of their true classes): so the mean is over the
same classes in every epoch of every trial. A class that is never predicted has recall 0 and F1 0, and no precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar.reporting import EpochMetrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Objective:
    """`column` is its column in metrics.csv, `label` its name in a text; `direction` is maximize or minimize."""

    name: str
    column: str
    label: str
    direction: str = "maximize"

    def value(self, metrics: EpochMetrics) -> float:
        """The value of an epoch; of an epoch that an earlier version wrote, accuracy and loss alone are known."""
        value: float = getattr(metrics, self.column)
        return value

    def score(self, metrics: EpochMetrics) -> float:
        """The value, negated where it is minimized: larger is better."""
        return self.signed(self.value(metrics))

    def signed(self, value: float) -> float:
        """A value as a score, and a score as a value."""
        return value if self.direction == "maximize" else -value


ACCURACY = Objective("accuracy", "val_accuracy", "validation accuracy")
OBJECTIVES = {
    objective.name: objective
    for objective in (
        ACCURACY,
        Objective("balanced_accuracy", "val_balanced_accuracy", "validation balanced accuracy"),
        Objective("macro_f1", "val_macro_f1", "validation macro F1"),
        Objective("loss", "val_loss", "validation loss", "minimize"),
    )
}
"""What the setting `objective` may be."""


def values(metrics: EpochMetrics) -> dict[str, float]:
    """An epoch's value of each objective, by name; those that are not known are left out."""
    known = {name: getattr(metrics, objective.column) for name, objective in OBJECTIVES.items()}
    return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class ClassScore:
    """How well a class is recognised: `images` of it, of which `recall` is right; of those predicted as it, `precision`
    is right. None: there is no such image.
    """

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_scores(confusion: NDArray[np.int64]) -> list[ClassScore]:
    """Of each class, from the images by true class (rows) and predicted class (K, K)."""
    hits, actual, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return [_score(*counts) for counts in zip(hits.tolist(), actual.tolist(), predicted.tolist(), strict=True)]


def _score(hits: int, actual: int, predicted: int) -> ClassScore:
    return ClassScore(
        images=actual,
        precision=hits / predicted if predicted else None,
        recall=hits / actual if actual else None,
        f1=2 * hits / (actual + predicted) if actual else None,
    )


def balanced_accuracy(scores: Sequence[ClassScore]) -> float:
    return _mean([score.recall for score in scores])


def macro_f1(scores: Sequence[ClassScore]) -> float:
    return _mean([score.f1 for score in scores])


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)

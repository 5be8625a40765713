"""How well a model recognises labelled images: accuracy, the classes one by one, confusion, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar import intervals, layout
from cifar.calibration import expected_calibration_error
from cifar.data.images import DataError, printable
from cifar.data.listing import Walk, list_images
from cifar.data.split_file import read_rows
from cifar.errors import UserError
from cifar.objective import ClassScore, balanced_accuracy, class_scores, macro_f1
from cifar.options.restored import of_run
from cifar.options.splits import TRAIN, VAL

if TYPE_CHECKING:
    from analysis.statistics import confusion
else:
    confusion = layout.analysis("statistics.confusion")

SMALLEST = float(np.finfo(np.float32).tiny)
"""A probability of the true class below it counts as this one, so that the loss is finite."""


class ClassesError(UserError):
    """Folders that are not the classes of the model."""


@dataclass(frozen=True)
class Labelled:
    """Image files with their labels, indices into the classes of a model; and those of its classes without an image."""

    paths: list[Path]
    labels: list[int]
    empty: list[str]


def labelled_images(folder: Path, classes: Sequence[str], walk: Walk) -> Labelled:
    """The images in `folder`/<class>/*. Raises ClassesError for other classes, DataError where there are no images."""
    files, names = list_images(folder, "test", quiet=True, walk=walk)
    others = [name for name in names if name not in classes]
    if others:
        raise ClassesError(
            f"{printable(folder)}: holds folders that are no classes of the model: {', '.join(others)}; allowed: some"
            f" or all of {', '.join(classes)}; rename or remove them"
        )
    labels = [classes.index(names[number]) for _, number in files]
    return Labelled([path for path, _ in files], labels, [name for name in classes if name not in names])


def count_seen(run: Path, paths: Sequence[Path]) -> int | None:
    """How many of these files the run in a directory trained on, or chose its epoch by.

    None where that is not known: an export, images of an archive, a run that recorded no files.
    """
    place = Path(of_run(str(run)).get("data.root") or "").expanduser()
    folder = place.parent if place.suffix.lower() == ".csv" else place
    with suppress(DataError):
        files = [folder / row.file for row in read_rows(run) if row.part in (TRAIN, VAL)]
        if any(map(Path.is_file, files)):
            seen = {file.resolve() for file in files}
            return sum(path.resolve() in seen for path in paths)
    return None


@dataclass
class Evaluation:
    """Counts predictions. `confusion`: images by true class (rows) and predicted class, int64 (K, K)."""

    classes: tuple[str, ...]
    confidences: list[NDArray[np.float32]] = field(default_factory=list)
    right: list[NDArray[np.bool_]] = field(default_factory=list)
    loss_sum: float = 0.0

    def __post_init__(self) -> None:
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)

    def add(self, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """A batch of probabilities (B, K) with its labels (B,)."""
        predicted = probabilities.argmax(1)
        np.add.at(self.confusion, (labels, predicted), 1)
        self.confidences.append(probabilities.max(1))
        self.right.append(predicted == labels)
        of_true = probabilities[np.arange(len(labels)), labels]
        self.loss_sum -= float(np.log(np.maximum(of_true, SMALLEST), dtype=np.float64).sum())

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """A fraction of 1."""
        return int(self.confusion.trace()) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the accuracy, as the report has it (Wilson 1927)."""
        return intervals.wilson(self.accuracy, self.images)

    @property
    def calibration_error(self) -> float:
        return expected_calibration_error(np.concatenate(self.confidences), np.concatenate(self.right))

    @property
    def class_scores(self) -> list[ClassScore]:
        return class_scores(self.confusion)

    def confused_pairs(self) -> pd.DataFrame:
        """true, predicted, images, share of the true class: what is taken for what, most often first."""
        frame = pd.DataFrame(self.confusion, index=list(self.classes), columns=list(self.classes))
        return confusion.confused(frame)[["true", "predicted", "images", "share"]]

    def figures(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        scores = self.class_scores
        low, high = self.interval
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "interval": {"level": 0.95, "low": low, "high": high, "method": "wilson"},
            "balanced_accuracy": balanced_accuracy(scores),
            "macro_f1": macro_f1(scores),
            "loss": self.loss_sum / self.images,
            "expected_calibration_error": self.calibration_error,
            "classes": [{"class": name} | asdict(score) for name, score in zip(self.classes, scores, strict=True)],
            "confusion": self.confusion.tolist(),
        }

    def lines(self, shown: int = 5) -> list[str]:
        """The figures for people, with the pairs of classes that are confused most."""
        scores = self.class_scores
        low, high = self.interval
        width = max(len("class"), *map(len, self.classes))
        table = [f"{'class':<{width}}  images  precision  recall      F1"]
        for name, score in zip(self.classes, scores, strict=True):
            shares = f"{_share(score.precision):>9}  {_share(score.recall):>6}  {_share(score.f1):>6}"
            table.append(f"{name:<{width}}  {score.images:>6}  {shares}")
        pairs = [
            f"{pair.true} predicted as {pair.predicted}: {pair.images} images, {pair.share:.1%} of {pair.true}"
            for pair in self.confused_pairs().head(shown).itertuples()
        ]
        return [
            f"accuracy {self.accuracy:.4f} of {self.images} images (95% interval {low:.4f} to {high:.4f})",
            f"balanced accuracy {balanced_accuracy(scores):.4f} · macro F1 {macro_f1(scores):.4f} · expected"
            f" calibration error {self.calibration_error:.4f}",
            *("", *table),
            *(["", "confused most:", *pairs] if pairs else []),
        ]


def _share(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"

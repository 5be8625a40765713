"""The run directory: what a run writes, and how others read it. Imports no torch.

.hydra/          config and overrides, as Hydra writes them, but once the run has started
metrics.csv      a row an epoch, columns as the fields of EpochMetrics
result.json      status, best and last validation figures, timings, fingerprint, versions, git commit
confusion.csv    of the best epoch: validation images by true class (rows) and predicted class
classes.csv      of the best epoch: validation images, precision, recall and F1 of each class
predictions.csv  of the best epoch: each validation image, and each test image after a test (cifar/predictions.py)
examples/        of a run that was trained to its end: a few images for its report (cifar/examples.py)
checkpoint.pt    after the last epoch, to resume
best.pt          weights of the best epoch by the objective
split.csv        which image is in which part
initial/         best.pt and split.csv of the run that this one began with (from_run)
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any, get_type_hints

from cifar.commands import command, override
from cifar.errors import UserError
from cifar.files import cannot_write, csv_bytes, write_atomically
from cifar.objective import ACCURACY, ClassScore, Objective
from cifar.reporting import EpochMetrics

SETTINGS = ".hydra"
BEST = "best.pt"
STATUSES = ("running", "finished", "pruned", "interrupted", "diverged", "failed")


class ResultsError(UserError):
    """A run directory that cannot be written or read."""


class RunDirectory:
    """Writes one run's metrics.csv and result.json. Raises FileError where it cannot."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metrics = self.path / "metrics.csv"
        self.result = self.path / "result.json"

    def start(self, history: Iterable[EpochMetrics], resumed: bool, result: Mapping[str, Any] | None = None) -> None:
        """Begin metrics.csv with the epochs already done, and write `result`, the first result.json.

        `resumed`: the run that is in the directory. Any other is refused; of several that start at once, one writes
        result.json.
        """
        if not resumed:
            check_free(self.path)
        if result is not None and not resumed:
            try:
                write_atomically(self.result, _json(result), exclusive=True)
            except FileExistsError:
                check_free(self.path)
        _write_table(self.metrics, [f.name for f in fields(EpochMetrics)], map(astuple, history))

    def append(self, metrics: EpochMetrics) -> None:
        """Add a row to metrics.csv; it is with the operating system when this returns."""
        try:
            with self.metrics.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(astuple(metrics))
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def write_confusion(self, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        """Replace confusion.csv: a row for each true class, with its name first."""
        rows = ([name, *row] for name, row in zip(classes, counts, strict=True))
        _write_table(self.path / "confusion.csv", ["true \\ predicted", *classes], rows)

    def write_classes(self, classes: Sequence[str], scores: Sequence[ClassScore]) -> None:
        """Replace classes.csv: a row for each class; an empty field is not defined."""
        rows = ([name, *astuple(score)] for name, score in zip(classes, scores, strict=True))
        _write_table(self.path / "classes.csv", ["class", *(f.name for f in fields(ClassScore))], rows)

    def write_result(self, result: dict[str, Any]) -> None:
        """Replace result.json."""
        write_atomically(self.result, _json(result))

    def write_settings(self, settings: Mapping[str, str]) -> None:
        """Replace the files of .hydra/, given by name."""
        folder = self.path / SETTINGS
        folder.mkdir(exist_ok=True)
        for name, text in settings.items():
            write_atomically(folder / name, text.encode())


def same_directory(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def check_free(directory: Path) -> None:
    """Raises ResultsError where a directory holds a run."""
    if (directory / "result.json").exists():
        raise ResultsError(
            f"{directory} already holds a run; resume it ({command(override('resume', directory))}) or choose"
            " another hydra.run.dir"
        )


def _json(result: Mapping[str, Any]) -> bytes:
    return (json.dumps(result, indent=2) + "\n").encode()


def _write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    write_atomically(path, csv_bytes([head, *rows]))


def read_metrics(path: Path) -> list[EpochMetrics]:
    """The epochs of a metrics.csv; a last line cut off by a crash is left out. An empty field is None."""
    whole = {name for name, kind in get_type_hints(EpochMetrics).items() if kind is int}
    epochs = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if line.endswith("\n")):
            values = {name: int(text) if name in whole else float(text) for name, text in row.items() if text}
            epochs.append(EpochMetrics(**values))  # type: ignore[arg-type]
    return epochs


def read_result(directory: Path) -> dict[str, Any]:
    """The result.json of a run directory. Raises ResultsError where there is none or it cannot be read."""
    path = Path(directory) / "result.json"
    try:
        result = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path}: no such file; a run directory holds one") from None
    except ValueError as error:
        raise ResultsError(f"{path}: not JSON ({error})") from None
    return dict(result)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of nested mappings with its full key, as ("optimizer.lr", 0.1); lists stay whole."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def best_of(history: Iterable[EpochMetrics], objective: Objective = ACCURACY) -> EpochMetrics | None:
    """The best epoch by the objective, the first of equals; None where there is none yet."""
    return max(history, key=objective.score, default=None)


def stopped_early(history: Sequence[EpochMetrics], objective: Objective, patience: int | None) -> bool:
    """Whether the last `patience` epochs were no better than the best one before them; None: never."""
    best = best_of(history, objective)
    return patience is not None and best is not None and history[-1].epoch - best.epoch >= patience


def summary(history: list[EpochMetrics], objective: Objective = ACCURACY) -> dict[str, Any]:
    """The objective, the best and the last epoch, and the seconds of all, as result.json holds them."""
    best = best_of(history, objective)
    return {
        "objective": objective.name,
        "best": asdict(best) if best else None,
        "last": asdict(history[-1]) if history else None,
        "epochs_done": len(history),
        "train_seconds": sum(metrics.seconds for metrics in history),
    }

"""What predictions and evaluations look like: lines for people, CSV, JSON.

A CSV file holds file names as they are, in bytes: read those that are not UTF-8 with encoding_errors="surrogateescape"
(pandas) or errors="surrogateescape" (open). JSON has such bytes as \\udcNN, which Python reads as the same names.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar.data.images import on_one_line
from cifar.endings import write_to_stdout
from cifar.files import csv_bytes, write_atomically, writing_atomically

if TYPE_CHECKING:
    from cifar.inference.evaluation import Evaluation
    from cifar.inference.marks import Mark, Marker
    from cifar.inference.model import Model

STDOUT = "-"
WIDEST = 60
"""Characters of a file name that are aligned; longer ones move their line to the right."""
MARKS = ("unsure", "unlike", "distance")
Problems = Sequence[tuple[Path, str]]
"""Paths that could not be read, each with the reason."""


class Writer(ABC):
    """Receives the predictions of one image after another, most likely class first."""

    @abstractmethod
    def row(self, path: Path, classes: Sequence[str], probabilities: Sequence[float], mark: Mark) -> None: ...

    def end(self, facts: dict[str, Any], unreadable: Problems) -> None:  # noqa: B027  (a no-op by default)
        """Called after the last image; `facts` say what was predicted with."""


@dataclass
class Lines(Writer):
    """Aligned lines on standard output: file, class, probability, and so on, and in words what is to be said of it."""

    name_width: int
    class_width: int

    def row(self, path: Path, classes: Sequence[str], probabilities: Sequence[float], mark: Mark) -> None:
        pairs = zip(classes, probabilities, strict=True)
        shares = "  ".join(f"{name:<{self.class_width}}  {share:.4f}" for name, share in pairs)
        print("  ".join([f"{on_one_line(path):<{self.name_width}}  {shares}", *mark.words]), flush=True)


@dataclass
class Table(Writer):
    """CSV: file, class, probability, and class_2, probability_2 and so on, where more than one class is asked for.

    The last columns are those of MARKS; they are empty where it is not known.
    """

    write: Callable[[bytes], object]
    top: int

    def __post_init__(self) -> None:
        ranks = [f"_{rank}" if rank > 1 else "" for rank in range(1, self.top + 1)]
        self._write(["file", *(f"{name}{rank}" for rank in ranks for name in ("class", "probability")), *MARKS])

    def row(self, path: Path, classes: Sequence[str], probabilities: Sequence[float], mark: Mark) -> None:
        shares = [f"{share:.6g}" for share in probabilities]
        marks = [_cell(value) for value in mark.as_json().values()]
        self._write([str(path), *(cell for pair in zip(classes, shares, strict=True) for cell in pair), *marks])

    def _write(self, cells: Sequence[str]) -> None:
        self.write(_csv([cells]))


@dataclass
class Document(Writer):
    """JSON: what was predicted with, the predictions, and the files that could not be read."""

    file: str
    predictions: list[dict[str, Any]] = field(default_factory=list)

    def row(self, path: Path, classes: Sequence[str], probabilities: Sequence[float], mark: Mark) -> None:
        shares = [float(f"{share:.6g}") for share in probabilities]
        row = {"file": str(path), "classes": list(classes), "probabilities": shares}
        self.predictions.append(row | mark.as_json())

    def end(self, facts: dict[str, Any], unreadable: Problems) -> None:
        write_json(self.file, facts | {"predictions": self.predictions, "unreadable": _unreadable(unreadable)})


@dataclass
class AllOf(Writer):
    """Passes everything on to each of its writers."""

    writers: list[Writer]

    def row(self, path: Path, classes: Sequence[str], probabilities: Sequence[float], mark: Mark) -> None:
        for writer in self.writers:
            writer.row(path, classes, probabilities, mark)

    def end(self, facts: dict[str, Any], unreadable: Problems) -> None:
        for writer in self.writers:
            writer.end(facts, unreadable)


@contextmanager
def writing(
    csv_file: str | None, json_file: str | None, paths: Sequence[Path], classes: Sequence[str], top: int
) -> Iterator[Writer]:
    """A writer of what is asked for; lines where that is nothing. Files are replaced at the end of the block."""
    writers: list[Writer] = []
    with ExitStack() as stack:
        if csv_file is not None:
            write: Callable[[bytes], object] = write_to_stdout
            if csv_file != STDOUT:
                write = stack.enter_context(writing_atomically(Path(csv_file))).write
            writers.append(Table(write, top))
        if json_file is not None:
            writers.append(Document(json_file))
        if not writers:
            widest = max((len(on_one_line(path)) for path in paths), default=0)
            writers.append(Lines(min(widest, WIDEST), max(map(len, classes))))
        yield AllOf(writers)


def write_evaluation(
    evaluation: Evaluation,
    facts: dict[str, Any],
    unreadable: Problems,
    csv_file: str | None,
    json_file: str | None,
    lines: Sequence[str] = (),
) -> None:
    """Print an evaluation, unless standard output is for a file; its confusion matrix as CSV, everything as JSON.

    `facts` are a part of the JSON, `lines` of what is printed.
    """
    if STDOUT not in (csv_file, json_file):
        print("\n".join([*evaluation.lines(), *(["", *lines] if lines else [])]))
    if csv_file is not None:
        rows = [[name, *counts] for name, counts in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)]
        _write(csv_file, _csv([["true \\ predicted", *evaluation.classes], *rows]))
    if json_file is not None:
        write_json(json_file, facts | evaluation.figures() | {"unreadable": _unreadable(unreadable)})


def write_json(file: str, content: dict[str, Any]) -> None:
    _write(file, (json.dumps(content, indent=2) + "\n").encode())


def facts(model: Model, tta: str, marker: Marker) -> dict[str, Any]:
    """What is predicted with, and what its marks mean, as JSON holds it."""
    chosen = {"model": str(model.chosen.file), "chosen": model.chosen.reason or None, "tta": tta}
    return chosen | {"reliability": marker.facts()}


def _unreadable(problems: Problems) -> list[dict[str, str]]:
    return [{"file": str(path), "reason": reason} for path, reason in problems]


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    return csv_bytes(rows, errors="surrogateescape")


def _cell(value: object) -> str:
    return "" if value is None else str(value).lower()


def _write(file: str, content: bytes) -> None:
    if file == STDOUT:
        write_to_stdout(content)
    else:
        write_atomically(Path(file), content)

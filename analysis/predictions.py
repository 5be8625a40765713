"""What a run predicts image by image, and the few images that it kept as examples.

frame = predictions_of(frames.runs.run)      # columns: schema.PREDICTIONS
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cifar import predictions
from cifar.predictions import COLUMNS, EXAMPLES, FILE, INDEX, INDEX_COLUMNS

from .schema import PREDICTIONS, table

TYPES = {".png": "image/png", ".jpg": "image/jpeg"}
"""The types of files that are examples, by suffix."""
MOST_BYTES = 2_000_000
"""Of the examples of a run; others that were put there are left out."""


@dataclass(frozen=True)
class Example:
    """An image of a run: `source` is its content as a data URL; `kind` is one of those in cifar.predictions.

    `row` is its row of predictions.csv, None of the first batch.
    """

    source: str
    kind: str
    row: predictions.Row | None


def predictions_of(runs: Iterable[str | Path]) -> pd.DataFrame:
    """The predictions.csv of each run; of those that have none or a damaged one, no rows."""
    frames = [_frame(str(run)) for run in runs]
    whole = pd.concat(frames, ignore_index=True) if frames else table([], PREDICTIONS)
    return whole[list(PREDICTIONS)]


def _frame(run: str) -> pd.DataFrame:
    try:
        rows = predictions.read(Path(run) / FILE)
    except ValueError:
        rows = []
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).assign(run=run)
    return frame.astype({name: "object" if dtype == "str" else dtype for name, (dtype, _) in PREDICTIONS.items()})


def examples_of(run: str | Path) -> list[Example]:
    """The images in examples/ of a run; none where there are none, as in runs that were stopped or of earlier versions.

    Those that cannot be read are left out.
    """
    folder = Path(run) / EXAMPLES
    try:
        with (folder / INDEX).open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if None not in line.values()]
    except (OSError, ValueError, csv.Error):
        return []
    examples = []
    left = MOST_BYTES
    for line in lines:
        content = _content(folder, line.get("image", ""), left)
        row = _row(line)
        if content and (row is not None or line.get("kind") == predictions.BATCH):
            left -= len(content)
            source = f"data:{TYPES[Path(line['image']).suffix]};base64,{base64.b64encode(content).decode()}"
            examples.append(Example(source, line["kind"], row))
    return examples


def _content(folder: Path, name: str, most: int) -> bytes:
    """Of an image in the folder; empty where there is no such file, or where it has more than `most` bytes."""
    path = folder / Path(name).name
    try:
        fits = path.suffix in TYPES and path.stat().st_size <= most
        return path.read_bytes() if fits else b""
    except (OSError, ValueError):
        return b""


def _row(line: dict[str, str]) -> predictions.Row | None:
    try:
        *names, probability, of_true, loss = (line[name] for name in INDEX_COLUMNS[2:])
        file, part, true, predicted = names
        return predictions.Row(file, part, true, predicted, float(probability), float(of_true), float(loss))
    except (KeyError, ValueError):
        return None

"""predictions.csv: what the best epoch of a run predicts of each validation image, and of each test image after a test.

file               its name below data.root, or its position in the source, as text
part               val or test; training images are never in it
class              the true one
predicted          the most likely one
probability        of the predicted class, calibrated as by predict: logits are divided by the temperature of best.pt
class_probability  of the true class, likewise
loss               cross-entropy in nats without the temperature, whose mean is the loss in metrics.csv and result.json

Names are written as they are, so that programs read them back; CSV quotes what needs it. Imports no torch.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar.calibration import Floats, Labels
from cifar.files import csv_bytes, write_atomically

FILE = "predictions.csv"
COLUMNS = ("file", "part", "class", "predicted", "probability", "class_probability", "loss")
VAL, TEST = "val", "test"
MOST = 100_000
"""Rows of a part; of more images, those with the largest loss, in which the mistakes are."""
EXAMPLES, INDEX = "examples", "index.csv"
"""The folder of a run with a few of its images, and the file there that says what each shows."""
MISTAKE, CONFUSED, LEAST_SURE, BATCH = "mistake", "confused", "least sure", "batch"
"""What an image is an example of: the most confident mistakes, the pairs of classes that are confused most, what is
right with the lowest probability, and the first batch of training images, all in one picture."""
INDEX_COLUMNS = ("image", "kind", *COLUMNS)
"""`image` is a file in the folder; of a batch the rest is empty."""
AT_ONCE = 2**20
"""Logits that probabilities are computed of at once."""
Predicted = tuple[NDArray[np.int64], Floats, Floats, Floats]


class Row(NamedTuple):
    """What is predicted of one image; the fields are COLUMNS."""

    file: str
    part: str
    true: str
    predicted: str
    probability: float
    true_probability: float
    loss: float

    @property
    def right(self) -> bool:
        return self.predicted == self.true


def rows_of(
    part: str, names: Sequence[str], classes: Sequence[str], labels: Labels, logits: Floats, temperature: float | None
) -> list[Row]:
    """A row for each image of a part, in their order. logits: (N, classes); labels (N,): indices into `classes`.

    Without `names`, images are known by their position in the part.
    """
    indices, *values = _predicted(logits, labels, temperature or 1.0)
    kept = range(len(labels)) if len(labels) <= MOST else np.sort(np.argsort(-values[-1], kind="stable")[:MOST])
    known = names or range(len(labels))
    return [
        Row(str(known[i]), part, classes[labels[i]], classes[indices[i]], *(float(value[i]) for value in values))
        for i in kept
    ]


def _predicted(logits: Floats, labels: Labels, temperature: float) -> Predicted:
    """Of each image the most likely class, its probability, that of the label, and the loss."""
    size = max(1, AT_ONCE // logits.shape[1])
    starts = range(0, max(1, len(labels)), size)
    blocks = [_of_block(logits[start : start + size], labels[start : start + size], temperature) for start in starts]
    indices, probability, of_label, loss = (np.concatenate(values) for values in zip(*blocks, strict=True))
    return indices, probability, of_label, loss


def _of_block(logits: Floats, labels: Labels, temperature: float) -> Predicted:
    values = np.asarray(logits, np.float64)
    indices = values.argmax(1)  # the first of equals, as torch's
    rows = np.arange(len(labels))
    shifted = values - values[rows, indices, None]
    loss = np.log(np.exp(shifted).sum(1)) - shifted[rows, labels]
    shifted /= temperature
    probability = 1 / np.exp(shifted).sum(1)
    return indices, probability, probability * np.exp(shifted[rows, labels]), loss


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace a predictions.csv. Raises FileError where it cannot be written."""
    write_table(path, COLUMNS, map(cells, rows))


def cells(row: Row) -> list[str]:
    return [*row[:4], *(f"{value:.6g}" for value in row[4:])]


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Replace a CSV file. Raises FileError where it cannot be written."""
    write_atomically(path, csv_bytes([head, *rows]))


def read(path: Path) -> list[Row]:
    """The rows of a predictions.csv; none where there is no such file, as in runs of earlier versions.

    Raises ValueError where it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.reader(file)
            if tuple(next(table, ())) != COLUMNS:
                raise ValueError(f"not a predictions.csv: its columns are not {', '.join(COLUMNS)}")
            return [_row(texts, table.line_num) for texts in table]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error


def _row(texts: Sequence[str], line: int) -> Row:
    """Raises ValueError where there is not one value for each column."""
    try:
        file, part, true, predicted, *values = texts
        return Row(file, part, true, predicted, *map(float, values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"line {line}: {error}") from error


def confident_mistakes(rows: Iterable[Row], most: int) -> list[Row]:
    """Those that are wrong, the most probable first."""
    return sorted((row for row in rows if not row.right), key=lambda row: -row.probability)[:most]


def least_sure(rows: Iterable[Row], most: int) -> list[Row]:
    """Those that are right, the least probable first."""
    return sorted((row for row in rows if row.right), key=lambda row: row.probability)[:most]


def confused(rows: Iterable[Row], most_pairs: int, most: int) -> Iterator[list[Row]]:
    """Of each pair of classes that is confused most, by the share of the true class, its most confident mistakes."""
    of_class: defaultdict[str, int] = defaultdict(int)
    pairs: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        of_class[row.true] += 1
        if not row.right:
            pairs[row.true, row.predicted].append(row)
    ranked = sorted(pairs.values(), key=lambda pair: (-len(pair) / of_class[pair[0].true], -len(pair)))
    for pair in ranked[:most_pairs]:
        yield confident_mistakes(pair, most)

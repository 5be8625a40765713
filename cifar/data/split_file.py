"""split.csv of a run: which image is in which part. Who resumes the run is bound to it.

file    its name below data.root, or its position in the part
part    train, val, calibration or test
class   its name
digest  of what it shows, as cifar.data.digests computes it: it stays when files are renamed
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from cifar.data.images import DataError, Images, on_one_line
from cifar.files import csv_bytes, write_atomically
from cifar.options.splits import CALIBRATION, TEST, TRAIN, VAL

NAME = "split.csv"
COLUMNS = ("file", "part", "class", "digest")
RECORDED_PARTS = (TRAIN, VAL, CALIBRATION, TEST)


@dataclass(frozen=True)
class Row:
    """An image; `label` is the name of its class, `digest` is hexadecimal."""

    file: str
    part: str
    label: str
    digest: str


def write(directory: Path, parts: Mapping[str, Images | None]) -> None:
    """Write split.csv into a run directory; of images without digests there is none."""
    known = {part: images for part, images in parts.items() if images is not None and images.digests is not None}
    if known:
        write_rows(directory, rows_of(known))


def rows_of(parts: Mapping[str, Images]) -> list[Row]:
    """Of images whose digests are known, by part."""
    rows = []
    for part, images in parts.items():
        assert images.digests is not None
        digests = images.digests.numpy()
        for name, label, digest in zip(images.names, images.labels.tolist(), digests, strict=True):
            rows.append(Row(name, part, images.classes[label], digest.tobytes().hex()))
    return rows


def write_rows(directory: Path, rows: Iterable[Row]) -> None:
    """Write these rows as split.csv into a directory."""
    write_atomically(directory / NAME, csv_bytes([COLUMNS, *map(astuple, rows)]))


def _is_row(cells: list[str]) -> bool:
    return len(cells) == len(COLUMNS) and cells[1] in RECORDED_PARTS


def read_rows(directory: Path) -> list[Row]:
    """The rows of the split.csv in a directory; none where there is no such file.

    Raises DataError where it is damaged.
    """
    file = directory / NAME
    lines: list[list[str]] = []
    try:
        with suppress(FileNotFoundError), file.open(encoding="utf-8", newline="") as content:
            for cells in csv.reader(content, strict=True):
                lines.append(cells)
                if not (_is_row(cells) if len(lines) > 1 else tuple(cells) == COLUMNS):
                    raise ValueError(f"line {len(lines)}: {on_one_line(','.join(cells))}")
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{on_one_line(file)}: damaged ({error}); allowed: the columns {','.join(COLUMNS)}, the part one of"
            f" {', '.join(RECORDED_PARTS)}; restore the file, or start a new run"
        ) from None
    return [Row(*cells) for cells in lines[1:]]

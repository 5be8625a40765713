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

from cifar.data.images import Images
from cifar.files import csv_bytes, write_atomically

NAME = "split.csv"
COLUMNS = ("file", "part", "class", "digest")


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
    write_atomically(directory / NAME, csv_bytes([COLUMNS, *map(astuple, rows)], "\n"))


def read_rows(directory: Path) -> list[Row]:
    """The rows of the split.csv in a directory; none where there is no such file."""
    with suppress(FileNotFoundError), (directory / NAME).open(encoding="utf-8", newline="") as lines:
        return [Row(*(row[column] for column in COLUMNS)) for row in csv.DictReader(lines)]
    return []

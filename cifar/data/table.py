"""Images that a CSV file lists: path, label and, optionally, split; other columns are read and kept."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cifar.data import decoded
from cifar.data.decoded import Listing
from cifar.data.groups import group_numbers, groups_by_pattern
from cifar.data.images import DataError, Images, printable
from cifar.data.names import sorted_names
from cifar.data.request import OR_WITHOUT, Request
from cifar.formatting import shortened
from cifar.options.data import Data
from cifar.options.splits import PARTS, REGEX

PATH, LABEL, SPLIT = "path", "label", "split"
MISSING_SHOWN = 3
"""Missing files in one message."""


@dataclass(frozen=True)
class Row:
    """A line of the file: an image, the name of its class, its part of the data, and what is in the other columns."""

    line: int
    path: Path
    label: str
    part: str
    others: Mapping[str, str]


def table(option: Data, request: Request) -> Images:
    """The images of the rows of one part, in the order of the file. Raises DataError as `rows_of_part` does."""
    file = _file(option)
    rows = rows_of_part(file, request.part)
    groups = None if option.groups is None else _groups(option.groups, file, rows)
    return decoded.load(_listing(file, rows, request.part), request, option.unreadable, groups)


def listed(option: Data, part: str, cache_dir: Path) -> Listing | None:
    """The files of one part, whether they are there or not; None where there is no such part.

    Raises DataError as `read_rows` does.
    """
    file = _file(option)
    rows = [row for row in read_rows(file) if row.part == part]
    if not rows:
        return None
    return _listing(file, rows, part)


def _groups(groups: str, file: Path, rows: list[Row]) -> Tensor:
    """int64 (N,): the groups of rows by data.groups. Raises DataError for no column, and where a row has no value."""
    if groups.startswith(REGEX):
        names = [printable(os.path.relpath(row.path, file.parent)) for row in rows]
        return groups_by_pattern(groups.removeprefix(REGEX), names, rows[0].part)
    columns = ", ".join(rows[0].others)
    if groups not in rows[0].others:
        problem = f"no such column in {printable(file)}"
        raise DataError(f"data.groups={groups}: {problem}; allowed: {columns or 'null, as it has no others'}")
    empty = [str(row.line) for row in rows if not row.others[groups]]
    if empty:
        raise DataError(
            f"data.groups={groups}: {printable(file)} has {len(empty)} {rows[0].part} rows without a value there (line"
            f" {shortened(empty, MISSING_SHOWN)}); give each one, such as its path where it is a group by itself"
        )
    return group_numbers(row.others[groups] for row in rows)


def common_size(option: Data, request: Request) -> int | None:
    """The height and width of all training images, None where they are not all square and equal."""
    file = _file(option)
    return decoded.common_size(_listing(file, rows_of_part(file, "train"), "train"), request.cache_dir)


def has_val(option: Data) -> bool:
    """Whether a row is of the part "val"."""
    return any(row.part == "val" for row in read_rows(_file(option)))


def rows_of_part(file: Path, part: str) -> list[Row]:
    """The rows of one part. Raises DataError as `read_rows` does, for a part without rows, and for missing images."""
    rows = [row for row in read_rows(file) if row.part == part]
    if not rows:
        raise DataError(
            f"{printable(file)}: no rows with {SPLIT} {part}; allowed: a column {SPLIT} with {', '.join(PARTS)}"
            f"{OR_WITHOUT[part]}"
        )
    missing = [row for row in rows if not row.path.is_file()]
    if missing:
        shown = shortened((f"line {row.line}: {printable(row.path)}" for row in missing), MISSING_SHOWN)
        raise DataError(
            f"{printable(file)}: {len(missing)} of {len(rows)} images are not there ({shown}); allowed: paths of"
            f" files, relative to {printable(file.parent)} or absolute"
        )
    return rows


def read_rows(file: Path) -> list[Row]:
    """All rows. Raises DataError for a file that cannot be read, without the columns, or with a wrong row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            _check_header(file, reader.fieldnames or ())
            return list(_checked(file, _rows(file, reader)))
    except FileNotFoundError:
        problem = "no such file"
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = f"cannot be read ({error})"
    raise DataError(
        f"{printable(file)}: {problem}; data.root must be a CSV file in UTF-8 whose first line is {PATH},{LABEL} or"
        f" {PATH},{LABEL},{SPLIT}"
    )


def _check_header(file: Path, names: Iterable[str]) -> None:
    """Raises DataError where a column is missing or is there twice."""
    columns = list(names)
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(f"{printable(file)}, line 1: column {name} is there twice; give each another name")
    missing = [name for name in (PATH, LABEL) if name not in columns]
    if missing:
        raise DataError(
            f"{printable(file)}, line 1: no column {' and no column '.join(missing)} ({', '.join(columns) or 'empty'});"
            f" the first line names the columns, separated by commas: {PATH},{LABEL} or {PATH},{LABEL},{SPLIT}"
        )


def _rows(file: Path, reader: csv.DictReader[str]) -> Iterator[Row]:
    for fields in reader:
        place = f"{printable(file)}, line {reader.line_num}"
        if None in fields or None in fields.values():
            raise DataError(
                f"{place}: not as many fields as there are columns ({len(reader.fieldnames or ())}); put a field with a"
                ' comma between quotation marks, "a,b.png"'
            )
        values = {name: value.strip() for name, value in fields.items()}
        for name in (PATH, LABEL):
            if not values[name]:
                raise DataError(f"{place}: {name} is empty; give it, or remove the line")
        part = values.get(SPLIT, "train")
        if part not in PARTS:
            raise DataError(f"{place}: {SPLIT} is {part!r}; allowed: {', '.join(PARTS)}")
        others = {name: value for name, value in values.items() if name not in (PATH, LABEL, SPLIT)}
        home = values[PATH].startswith("~/")
        path = file.parent / (Path(values[PATH]).expanduser() if home else values[PATH])
        yield Row(reader.line_num, path, values[LABEL], part, others)


def _checked(file: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows. Raises DataError where two name the same file."""
    lines: dict[str, Row] = {}
    for row in rows:
        first = lines.setdefault(os.path.normpath(row.path), row)
        if first is not row:
            labels = f"as {first.label} of {first.part} and as {row.label} of {row.part}"
            raise DataError(
                f"{printable(file)}, line {row.line}: {printable(row.path)} is in line {first.line} already ({labels});"
                " keep one of them"
            )
        yield row


def _listing(file: Path, rows: list[Row], part: str) -> Listing:
    classes = sorted_names({row.label for row in rows})
    if part == "train" and len(classes) < 2:
        raise DataError(f"{printable(file)}: one class ({classes[0]}); allowed: two or more in the training part")
    indices = {name: index for index, name in enumerate(classes)}
    return Listing(file.parent, [(row.path, indices[row.label]) for row in rows], classes, labels_from=file.name)


def _file(option: Data) -> Path:
    return Path(option.root or "").expanduser()

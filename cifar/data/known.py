"""Which images an earlier run knew, by what they show: for a run that begins with it, on more images (from_run).

Images that are in none of its parts are new.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar.data import split_file
from cifar.data.images import DataError, Images, channel_statistics, on_one_line
from cifar.data.split import Splits
from cifar.data.split_file import Row
from cifar.formatting import shortened
from cifar.options.splits import CALIBRATION, PARTS, TEST, TRAIN, TRAINING_PART, VAL

NEW = ""
"""The part of an image that the run did not know."""
INITIAL = "initial"
"""The folder in a run directory of what the run began with."""
NAMES_SHOWN = 5
"""File names in one message."""


@dataclass(frozen=True)
class KnownImage:
    """`part`: train, val, calibration or test; `classes`: the names under which the run had it."""

    part: str
    classes: frozenset[str]


@dataclass(frozen=True)
class Known:
    """`rows`: the images of an earlier run; `former`: those of the runs before it, with which its weights began.

    Two are equal where `sha256`, of all of this, is.
    """

    rows: list[Row] = field(compare=False)
    former: list[Row] = field(compare=False)
    images: dict[str, KnownImage] = field(compare=False)
    """Of both, by digest."""
    sha256: str

    @classmethod
    def of(cls, rows: Iterable[Row], former: Iterable[Row] = ()) -> Known:
        rows, former = list(rows), list(former)
        images = _by_digest(former) | _by_digest(rows)
        text = repr(sorted((digest, each.part, sorted(each.classes)) for digest, each in images.items()))
        return cls(rows, former, images, hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def read(cls, run: Path) -> Known | None:
        """Those of the run in a directory; None where it has no split.csv."""
        rows = split_file.read_rows(run)
        former = []
        place = run / INITIAL
        while place.is_dir():
            former += split_file.read_rows(place)
            place /= INITIAL
        return cls.of(rows, former) if rows else None

    def write(self, directory: Path) -> None:
        """Write what `read` reads."""
        split_file.write_rows(directory, self.rows)
        if self.former:
            (directory / INITIAL).mkdir(exist_ok=True)
            split_file.write_rows(directory / INITIAL, self.former)

    def parts(self, images: Images) -> NDArray[np.str_]:
        """The part in which each image was (N,), "" for one that is new."""
        known = (self.images.get(digest) for digest in hex_digests(images))
        return np.array([NEW if image is None else image.part for image in known], dtype="<U16")

    def relabelled(self, images: Images) -> int:
        """How many of the images had another class."""
        names = (images.classes[label] for label in images.labels.tolist())
        pairs = zip(map(self.images.get, hex_digests(images)), names, strict=True)
        return sum(image is not None and name not in image.classes for image, name in pairs)

    def removed(self, digests: Iterable[str]) -> int:
        """How many images the run trained and validated on that are none of those with these digests."""
        present = set(digests)
        return sum(row.part in (TRAIN, VAL) and row.digest not in present for row in self.rows)


def as_recorded(splits: Splits, images: Images, run: Path, limit: int | None) -> Splits:
    """The splits of `images`, as a run recorded them, where it did and they are of the training part.

    `limit`: data.limit, with which a run leaves images out. Raises DataError for images that it did not have.
    """
    rows = [row for row in split_file.read_rows(run) if row.part != TEST]
    if not rows or images.digests is None or splits.val_from != TRAINING_PART or _is_that_of(splits, rows):
        return splits
    recorded = Known.of(rows)
    if limit is None or limit >= len(images):
        _check_recorded(recorded, splits, run)
    parts = recorded.parts(images)
    train, val, calibration = (images.take(np.flatnonzero(parts == part)) for part in (TRAIN, VAL, CALIBRATION))
    if (set(train.names), set(val.names)) == (set(splits.train.names), set(splits.val.names)):
        return splits
    mean, std = channel_statistics(train.images)
    return replace(splits, train=train, val=val, calibration=calibration or None, mean=mean, std=std)


def _is_that_of(splits: Splits, rows: list[Row]) -> bool:
    """Whether the splits are as the rows say; copies may be in both parts."""
    recorded = Counter((row.part, row.digest) for row in rows if row.part in (TRAIN, VAL))
    present = split_file.rows_of({TRAIN: splits.train, VAL: splits.val})
    return recorded == Counter((row.part, row.digest) for row in present)


def _check_recorded(recorded: Known, splits: Splits, run: Path) -> None:
    used = [part for part in (splits.train, splits.val, splits.calibration) if part is not None]
    names = [name for part in used for name in np.array(part.names)[recorded.parts(part) == NEW].tolist()]
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        raise DataError(
            f"resume={on_one_line(run)}: {len(names)} images are not in its {split_file.NAME}, as they are new or have"
            f" changed: {', '.join(map(on_one_line, names[:NAMES_SHOWN]))}{more}; allowed: the images that it has; a"
            " new run with from_run may have more"
        )


def changes(run: Path, images: Images, parts: Collection[str], is_limited: bool) -> str:
    """How `images` differ from those of a run in these parts of its split.csv; "" where nothing is known.

    `is_limited`: the run left images out, so those that it does not know may be no others.
    """
    try:
        rows = [row for row in split_file.read_rows(run) if row.part in parts]
    except DataError:
        return ""
    if not rows or images.digests is None:
        return ""
    before = _names((row.digest, row.file) for row in rows)
    now = _names(zip(hex_digests(images), images.names, strict=True))
    renamed = [digest for digest in before if len(before[digest]) == len(now.get(digest, ())) == 1]
    pairs = [(*before[digest], *now[digest]) for digest in renamed]
    kinds = {
        "renamed": [f"{former} is {name}" for former, name in pairs if former != name],
        "missing or changed": [name for digest in before if digest not in now for name in before[digest]],
        "new or changed": [name for digest in now if digest not in before and not is_limited for name in now[digest]],
    }
    named = [f"{len(names)} {kind} ({shortened(names, NAMES_SHOWN)})" for kind, names in kinds.items() if names]
    return f"images by its {split_file.NAME}: {', '.join(named)}" if named else ""


def _names(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The names of each digest."""
    names: dict[str, list[str]] = {}
    for digest, name in pairs:
        names.setdefault(digest, []).append(name)
    return names


def _by_digest(rows: Iterable[Row]) -> dict[str, KnownImage]:
    images: dict[str, KnownImage] = {}
    for row in rows:
        before = images.get(row.digest, KnownImage(row.part, frozenset()))
        images[row.digest] = KnownImage(min(before.part, row.part, key=_rank), before.classes | {row.label})
    return images


def _rank(part: str) -> int:
    """An image that was in several parts is of the first of PARTS."""
    return PARTS.index(part) if part in PARTS else len(PARTS)


def hex_digests(images: Images) -> list[str]:
    """Of images whose digests are known."""
    assert images.digests is not None
    return [digest.tobytes().hex() for digest in images.digests.numpy()]

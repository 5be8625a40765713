"""split.csv of a run: which image is in which part. Who resumes the run is bound to it.

file    its name below data.root, or its position in the part
part    train, val, calibration or test
class   its name
digest  of what it shows, as cifar.data.digests computes it: it stays when files are renamed
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cifar.data.images import Images, channel_statistics
from cifar.data.split import Splits
from cifar.files import write_atomically
from cifar.options.splits import TRAINING_PART

NAME = "split.csv"
COLUMNS = ("file", "part", "class", "digest")


def write(directory: Path, parts: Mapping[str, Images | None]) -> None:
    """Write split.csv into a run directory; of images without digests there is none."""
    known = {part: images for part, images in parts.items() if images is not None and images.digests is not None}
    if not known:
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for part, images in known.items():
        assert images.digests is not None
        digests = images.digests.numpy()
        for name, label, digest in zip(images.names, images.labels.tolist(), digests, strict=True):
            rows.writerow((name, part, images.classes[label], digest.tobytes().hex()))
    write_atomically(directory / NAME, text.getvalue().encode())


def read(directory: Path) -> dict[str, str]:
    """The part of each image, by its digest (hex); empty where the run in the directory wrote none.

    Of an image that is in several, the one that is used first: train, then val.
    """
    parts: dict[str, str] = {}
    with suppress(FileNotFoundError), (directory / NAME).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            parts.setdefault(row["digest"], row["part"])
    return parts


def as_recorded(splits: Splits, images: Images, run: Path) -> Splits:
    """The splits of `images`, as a run recorded them, where it did and they are of the training part."""
    recorded = read(run)
    if not recorded or images.digests is None or splits.val_from != TRAINING_PART:
        return splits
    parts = np.array([recorded.get(digest.tobytes().hex(), "") for digest in images.digests.numpy()])
    train, val, calibration = (images.take(np.flatnonzero(parts == part)) for part in ("train", "val", "calibration"))
    if (set(train.names), set(val.names)) == (set(splits.train.names), set(splits.val.names)):
        return splits
    mean, std = channel_statistics(train.images)
    return replace(splits, train=train, val=val, calibration=calibration or None, mean=mean, std=std)

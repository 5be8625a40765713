"""How images are split, by data.val_from, folds, fold, groups and calibration_size, and the checks of these keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cifar.options.option import ConfigError

if TYPE_CHECKING:
    from cifar.options.data import Data

AUTO = "auto"
TRAIN, VAL, TEST, CALIBRATION = "train", "val", "test", "calibration"
PARTS = (TRAIN, VAL, TEST)
"""The parts that a data set may come in; a run takes further ones from its training part."""
TRAINING_PART, VAL_FOLDER, TEST_PART = "training_part", "val_folder", "test_part"
SPLITS = ("random", "content")
"""How the training part is split: at random, or by what the images show."""
VAL_PARTS = {VAL_FOLDER: VAL, TEST_PART: TEST}
"""The part of the source that is validated on as it is, by the value of data.val_from."""
ERROR, SKIP = "error", "skip"
"""data.unreadable: what is done about image files that cannot be read."""
EXACT, NEAR = "exact", "near"
"""data.check_duplicates: which images of two parts are the same, those with equal pixels or near duplicates too."""
REGEX = "regex:"
"""data.groups=regex:PATTERN: the files in whose names, below their class folder, the pattern finds the same are a
group. What it finds is its first capture group that took part, or else the whole match."""
COLUMN = "COLUMN"
"""data.groups=COLUMN: the rows of a table that have the same value in this column are a group."""
WAYS = {COLUMN: "the name of a column", REGEX: "regex:PATTERN, for the names of the files"}
"""By what data.groups may tell groups apart, in words; a source lists its ways in Data.groups_by."""


def check_val_from(data: Data) -> None:
    """Raises ConfigError where data.val_from names a part that the source never has."""
    if data.val_from == VAL_FOLDER and not data.has_val:
        raise ConfigError(
            f"data.val_from={VAL_FOLDER}: {data.source} has no part for validation; allowed: {TRAINING_PART},"
            f" {TEST_PART}"
        )


def check_test(data: Data, test: bool) -> None:
    """Raises ConfigError where the test images are those that choose the best epoch."""
    if test and data.val_from == TEST_PART:
        raise ConfigError(
            f"test=true data.val_from={TEST_PART}: the test images choose the best epoch, so they are not unseen;"
            f" allowed: test=false, or another data.val_from ({AUTO}, {TRAINING_PART}, {VAL_FOLDER})"
        )


def check_split(data: Data) -> None:
    """Raises ConfigError where the content of images is asked for and not known."""
    if data.split == "content" and not data.knows_content:
        raise ConfigError(
            f"data.split=content: not with data.source={data.source}; allowed: random, or images in folders, arrays"
            " or a csv"
        )


def check_fixes(data: Data) -> None:
    """Raises ConfigError where single images are to be corrected that have no names."""
    if data.fixes is not None and not data.knows_content:
        raise ConfigError(
            f"data.fixes={data.fixes}: not with data.source={data.source}; allowed: null, or images in folders, arrays"
            " or a csv"
        )


def check_folds(data: Data) -> None:
    """Raises ConfigError where data.fold is not one of the folds of data.folds."""
    folds, fold = data.folds, data.fold
    _check_is_split(data, "folds", folds)
    if folds is None and fold is not None:
        raise ConfigError(
            f"data.fold={fold}: there are no folds, as data.folds is null; allowed: data.folds=K with data.fold from 0"
            " to K-1, or data.fold=null"
        )
    if folds is not None and (fold is None or fold >= folds):
        shown = "null" if fold is None else fold
        raise ConfigError(
            f"data.fold={shown}: not one of data.folds={folds}; allowed: 0 to {folds - 1}, the fold to validate on, or"
            " data.folds=null"
        )


def check_groups(data: Data) -> None:
    """Raises ConfigError where data.groups says nothing that the source knows."""
    if data.groups is None:
        return
    _check_is_split(data, "groups", data.groups)
    way = REGEX if data.groups.startswith(REGEX) else COLUMN
    if way not in data.groups_by:
        ways = [words for name, words in WAYS.items() if name in data.groups_by]
        allowed = f"{', '.join(ways)}, or null" if ways else "null: its images are not grouped"
        raise ConfigError(f"data.groups={data.groups}: not with data.source={data.source}; allowed: {allowed}")
    if way == REGEX:
        _check_pattern(data.groups)


def check_size(key: str, size: float) -> None:
    """Raises ConfigError where the size of a part is neither a share nor a number of images."""
    if size >= 1 and size % 1:
        raise ConfigError(f"data.{key}={size}: allowed: a fraction below 1, or a whole number of images")


def check_calibration(data: Data) -> None:
    """Raises ConfigError where data.calibration_size is no size, or folds leave no images for it."""
    size = data.calibration_size
    check_size("calibration_size", size)
    if size and data.folds is not None:
        raise ConfigError(
            f"data.calibration_size={size:g} data.folds={data.folds}: with folds, each image is validated on once and"
            " trained on else; allowed: data.calibration_size=0, or data.folds=null"
        )


def _check_is_split(data: Data, key: str, value: object) -> None:
    """Raises ConfigError where a value says how to split the training part, which is not split."""
    if value is not None and data.val_from not in (TRAINING_PART, AUTO):
        raise ConfigError(
            f"data.{key}={value}: says how the training part is split, but data.val_from={data.val_from}; allowed:"
            f" {TRAINING_PART} or {AUTO}, or data.{key}=null"
        )


def _check_pattern(groups: str) -> None:
    try:
        re.compile(groups.removeprefix(REGEX))
    except re.error as error:
        raise ConfigError(
            f"data.groups={groups}: no regular expression ({error}); allowed: one as Python's module re reads it"
        ) from None

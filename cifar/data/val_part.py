"""Validation images that are not split off the training part: a part of the source, as it is."""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable

from cifar.data.images import DataError, Images, channel_statistics
from cifar.data.split import METHODS, Splits
from cifar.options.data import Data
from cifar.options.splits import AUTO, TRAINING_PART, VAL_FOLDER, VAL_PARTS

log = logging.getLogger(__name__)


def resolved(option: Data) -> str:
    """data.val_from, with auto resolved: the part for validation where the data came with one.

    Folds and groups say how the training part is split: a part for validation is then not used, and the log says so.
    """
    if option.val_from != AUTO:
        return option.val_from
    if not _has_val(option):
        return TRAINING_PART
    if option.folds is None and option.groups is None:
        return VAL_FOLDER
    log.info("data.val_from=auto: the training part is split, by data.folds or data.groups; the part val is not used")
    return TRAINING_PART


def _has_val(option: Data) -> bool:
    if not option.has_val:
        return False
    has_val: Callable[[Data], bool] = pkgutil.resolve_name(option.has_val)
    return has_val(option)


def splits_of(option: Data, val_from: str, train: Images, val: Images) -> Splits:
    """All of `val` to validate on, and data.limit images of `train`, whose classes it has, or some of them.

    Raises DataError where `val` has other classes, or where the limit leaves too few images.
    """
    try:
        labelled = val.with_classes(train.classes)
    except DataError as error:
        raise DataError(
            f"data.val_from={val_from}: part {VAL_PARTS[val_from]} of {option.root or option.source}: {error}; or set"
            f" data.val_from={TRAINING_PART}"
        ) from None
    kept = METHODS[option.split].subset(train, option.limit, option.val_seed, 1)
    mean, std = channel_statistics(kept.images)
    return Splits(kept, labelled, mean, std, val_from)


def log_val_from(option: Data, splits: Splits) -> None:
    """Log what is validated on where it is not of the training part, and which of its classes have no image."""
    val_from, val = splits.val_from, splits.val
    if val_from == TRAINING_PART:
        return
    auto = "auto: " if option.val_from == AUTO else ""
    log.info(
        "data.val_from=%s%s: validation on all %d images of part %s; data.val_size has no effect",
        *(auto, val_from, len(val), VAL_PARTS[val_from]),
    )
    present = val.present_classes()
    missing = [name for name in val.classes if name not in present]
    if missing:
        log.warning("part %s has no images of %s", VAL_PARTS[val_from], ", ".join(missing))

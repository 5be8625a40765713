"""The split of an earlier run, extended to more images (from_run): what it knew stays where it was, the rest is new.

Images that the run was trained on are never validated or tested on, those that it was validated or tested on are never
trained on. New images are split by content, in the shares of data.val_size (data.test_size), class by class; those of a
group that the run knew join it.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cifar.data import content_split
from cifar.data.images import DataError, Images, channel_statistics
from cifar.data.known import NEW, Known
from cifar.data.split import Splits
from cifar.options.data import Data
from cifar.options.splits import CALIBRATION, TEST, TRAIN, TRAINING_PART, VAL, VAL_PARTS

log = logging.getLogger(__name__)
Names = NDArray[np.str_]
Counts = NDArray[np.int64]


def extended(option: Data, images: Images, known: Known) -> Splits:
    """The splits of data.limit images of the training part. Raises DataError where a class cannot be trained on."""
    kept = content_split.subset(images, option.limit, option.val_seed)
    parts = _joined(kept, known.parts(kept))
    new = np.flatnonzero(parts == NEW)
    if len(new):
        quotas = _quotas(kept, parts, _share(option, len(kept)))
        parts[new] = np.where(_chosen(kept, parts, quotas, option.val_seed), VAL, TRAIN)
    train = kept.take(np.flatnonzero((parts != VAL) & (parts != TEST)))
    val_images = kept.take(np.flatnonzero(parts == VAL))
    _check(train, val_images)
    mean, std = channel_statistics(train.images)
    return Splits(train, val_images, mean, std, TRAINING_PART)


def with_val_part(option: Data, splits: Splits, known: Known) -> Splits:
    """Splits whose validation images are a part of the data, without the images that were on the other side."""
    train, val = splits.train, splits.val
    of_train, of_val = known.parts(train), known.parts(val)
    kept = train.take(np.flatnonzero((of_train != VAL) & (of_train != TEST)))
    unseen = val.take(np.flatnonzero(of_val != TRAIN))
    for part, before, now in (("train", train, kept), (VAL_PARTS[splits.val_from], val, unseen)):
        if len(now) < len(before):
            use = "validated or tested" if part == "train" else "trained"
            log.warning(
                "%d of %d images of part %s are left out, as the run that this one begins with (from_run) was %s on"
                " them; data.val_from=%s keeps each image where it was",
                *(len(before) - len(now), len(before), part, use, TRAINING_PART),
            )
    _check(kept, unseen)
    mean, std = channel_statistics(kept.images)
    return Splits(kept, unseen, mean, std, splits.val_from)


def unseen_test(images: Images, known: Known | None, quiet: bool = False) -> Images:
    """A test part without the images that the run was trained on. Raises DataError where none is left."""
    if known is None or images.digests is None:
        return images
    kept = np.flatnonzero(known.parts(images) != TRAIN)
    if len(kept) == len(images):
        return images
    if not len(kept):
        raise DataError(
            "test=true: the run that this one begins with (from_run) was trained on all images of part test; allowed:"
            " other images in it, or test=false"
        )
    if not quiet:
        log.warning(
            "%d of %d images of part test are left out, as the run that this one begins with (from_run) was trained on"
            " them",
            *(len(images) - len(kept), len(images)),
        )
    return images.take(kept)


def with_calibration(splits: Splits, size: float, seed: int, known: Known) -> Splits:
    """Splits with images for calibration set apart, as cifar.data.calibration_part does, of images to train on.

    The run was not trained on any of these: they are those that it had for calibration, and new ones, of each class as
    many as the share asks for where there are so many. Raises DataError where a class has none.
    """
    if not size:
        return splits
    images = splits.train
    parts = _joined(images, known.parts(images))
    new = np.flatnonzero(parts == NEW)
    totals = _counts(images, np.ones(len(images), bool)) + _counts(splits.val, np.ones(len(splits.val), bool))
    wanted = np.floor((size if size < 1 else size / totals.sum()) * totals + 0.5).astype(np.int64)
    if len(new):
        counts, had = _counts(images, parts == NEW), _counts(images, parts == CALIBRATION)
        most = counts - (_counts(images, parts == TRAIN) == 0)
        quotas = np.clip(np.maximum(wanted, 1) - had, 0, np.maximum(most, 0))
        parts[new] = np.where(
            content_split.chosen(images.take(new), quotas, "calibration", seed, ()), CALIBRATION, TRAIN
        )
    train, calibration = (
        images.take(np.flatnonzero(chosen)) for chosen in (parts != CALIBRATION, parts == CALIBRATION)
    )
    missing = calibration.missing_classes() or train.missing_classes()
    if missing:
        raise DataError(
            f"data.calibration_size={size:g}: too few images of {', '.join(missing)} to set some apart beside those to"
            " train on, as none can be taken that the run that this one begins with (from_run) was trained on; allowed:"
            " data.calibration_size=0, or more new images of each"
        )
    if len(calibration) < wanted.sum():
        log.warning(
            "data.calibration_size=%g: %d images in place of %d, as the others were trained on by the run that this one"
            " begins with",
            *(size, len(calibration), wanted.sum()),
        )
    mean, std = channel_statistics(train.images)
    return replace(splits, train=train, calibration=calibration, mean=mean, std=std)


def extended_test(size: float, images: Images, known: Known) -> tuple[Images, Images]:
    """(rest, test part) of images that came without parts; `size` is data.test_size."""
    parts = _joined(images, known.parts(images))
    new = np.flatnonzero(parts == NEW)
    if len(new):
        had = _counts(images, parts == TEST)
        wanted = np.maximum(content_split.quotas_of(images, size) - had, 0)
        quotas = np.minimum(wanted, _counts(images, parts == NEW))
        parts[new] = np.where(content_split.chosen(images.take(new), quotas, "test", 0, ()), TEST, NEW)
    return images.take(np.flatnonzero(parts != TEST)), images.take(np.flatnonzero(parts == TEST))


def _chosen(images: Images, parts: Names, quotas: Counts, seed: int) -> NDArray[np.bool_]:
    """Which new images are validated on. A class that a side lacks has to be on both."""
    sides = (_counts(images, parts == VAL), _counts(images, (parts != NEW) & (parts != VAL) & (parts != TEST)))
    lacking = np.flatnonzero((sides[0] == 0) | (sides[1] == 0)).tolist()
    return content_split.chosen(images.take(np.flatnonzero(parts == NEW)), quotas, "val", seed, lacking)


def _share(option: Data, images: int) -> float:
    """Of the new images, how many are validated on."""
    if option.folds is not None:
        return 1 / option.folds
    return option.val_size if option.val_size < 1 else min(option.val_size / images, 1.0)


def _joined(images: Images, parts: Names) -> Names:
    """The parts, with new images of a known group in the part of that group; the training part where it was in both."""
    if images.groups is None:
        return parts
    groups = images.groups.numpy()
    joined: Names = parts.copy()
    for part in (TEST, VAL, TRAIN):
        joined[(parts == NEW) & np.isin(groups, groups[parts == part])] = part
    return joined


def _quotas(images: Images, parts: Names, share: float) -> Counts:
    """How many new images of each class are validated on. Of a class that lacks images on a side, it gets one."""
    counts = _counts(images, parts == NEW)
    lacks_train = _counts(images, (parts != NEW) & (parts != VAL) & (parts != TEST)) == 0
    lacks_val = _counts(images, parts == VAL) == 0
    quotas = np.floor(share * counts + 0.5).astype(np.int64)
    quotas = np.maximum(quotas, np.minimum(lacks_val, counts))
    most: Counts = np.minimum(quotas, np.maximum(counts - lacks_train, 0))
    return most


def _counts(images: Images, chosen: NDArray[np.bool_]) -> Counts:
    """The images by class, of those that are chosen."""
    counts: Counts = np.bincount(images.labels.numpy()[chosen], minlength=len(images.classes))
    return counts


def _check(train: Images, val: Images) -> None:
    """Raises DataError where a class has no image to train on, or where there is none to validate on."""
    missing = train.missing_classes()
    if missing or not len(val):
        problem = f"none of {', '.join(missing)} is left to train on" if missing else "none is left to validate on"
        raise DataError(
            f"from_run: each image stays in the part in which it was, and so {problem}; allowed: add images"
            f"{', or remove the class' if missing else ''}"
        )
    absent = val.missing_classes()
    if absent:
        log.warning("no image of %s is validated on", ", ".join(absent))

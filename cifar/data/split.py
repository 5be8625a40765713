"""Stratified splits of images into those to train on and those to validate on, each with all classes.

Where Images.groups says which images belong together, no group is on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from cifar.data.images import DataError, Images, channel_statistics
from cifar.data.partition import partition
from cifar.options.splits import TRAINING_PART

Indices = NDArray[np.int64]
CLASSES_SHOWN = 20
"""Classes in one message, the smallest first."""


@dataclass(frozen=True)
class Splits:
    """The images to train on and to validate on; mean and std are of the channels of `train`, pixels in [0, 1].

    `val_from`: what `val` was taken from, in the words of data.val_from. `also_in_train`: images of `val` that are in
    `train` too, pixel by pixel; None where they were not counted. `calibration`: images for thresholds, which are in
    neither; None where there are none.
    """

    train: Images
    val: Images
    mean: list[float]
    std: list[float]
    val_from: str = TRAINING_PART
    also_in_train: int | None = None
    calibration: Images | None = None


def prepare(
    images: Images,
    limit: int | None,
    val_size: float,
    val_seed: int,
    folds: int | None = None,
    fold: int | None = None,
) -> Splits:
    """Keep `limit` of the images (None: all), then set `val_size` apart to validate on (below 1: a share), or a fold.

    A function of the images' labels and groups and the arguments. Raises DataError where a side would lack a class.
    """
    parts = folds or 2
    _check_groups(images, parts)
    kept = stratified_subset(images, limit, val_seed, parts)
    if kept is not images:
        _check_groups(kept, parts, limit)
    if folds is not None and fold is not None:
        train, val = split_fold(kept, folds, fold, val_seed)
    else:
        if _fits(len(images), images, val_size) and not _fits(len(kept), images, val_size):
            raise _limit_error(images, len(kept), val_size)
        train, val = split(kept, val_size, val_seed)
    mean, std = channel_statistics(train.images)
    return Splits(train, val, mean, std)


def split_fold(images: Images, folds: int, fold: int, seed: int) -> tuple[Images, Images]:
    """(rest, part): the part is one of `folds` stratified folds, from 0, of which each image is in one; in file order.

    Without groups, folds differ by one image of each class at most. A function of the images' labels and groups, folds,
    fold and seed. Raises DataError where a class has fewer images, or groups, than there are folds.
    """
    _check_classes(images, folds)
    labels = images.labels.numpy()
    if images.groups is not None:
        parts = partition(labels, images.groups.numpy(), [1 / folds] * folds, seed)
        rest, part = np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)
    else:
        from sklearn.model_selection import StratifiedKFold

        all_folds = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
        rest, part = next(islice(all_folds, fold, None))
    return images.take(rest), images.take(part)


def split(images: Images, size: float, seed: int) -> tuple[Images, Images]:
    """(rest, part): a stratified random part of `size` images (below 1: a share of all) and the rest, in file order.

    Both have an image of each class at least. With groups, the size is as near to that as they allow. A function of the
    images' labels and groups, size and seed. Raises DataError where a class or either side is too small.
    """
    classes = len(images.classes)
    _check_classes(images)
    if not _fits(len(images), images, size):
        raise DataError(
            f"data.val_size={size:g}: cannot take {_count(len(images), size)} of {len(images)} images in {classes}"
            f" classes, because both sides need at least one image of each class; allowed: {classes} to"
            f" {len(images) - classes} images, or such a fraction"
        )
    if images.groups is not None:
        share = _count(len(images), size) / len(images)
        parts = partition(images.labels.numpy(), images.groups.numpy(), [1 - share, share], seed)
        return images.take(np.flatnonzero(parts == 0)), images.take(np.flatnonzero(parts == 1))
    rest, part = _stratified(images, _count(len(images), size), seed)
    _complete(images.labels.numpy(), part, rest, 1, seed)
    _complete(images.labels.numpy(), rest, part, 1, seed)
    return images.take(np.sort(rest)), images.take(np.sort(part))


def stratified_subset(images: Images, count: int | None, seed: int, parts: int = 2) -> Images:
    """A stratified random subset of `count` images; `images` itself for None or where there are no more than that.

    It has `parts` images of each class at least, so that it can be split into these. Of a group it may have some images
    only: the others are used nowhere. Raises DataError where that is not possible.
    """
    if count is None or count >= len(images):
        return images
    classes = len(images.classes)
    _check_classes(images, parts)
    if not parts * classes <= count <= len(images) - classes:
        reasons = {1: "one of each class", 2: "two of each class, to train and to validate on"}
        each = reasons.get(parts, f"one of each class in {parts} folds")
        raise DataError(
            f"data.limit={count}: cannot take this number of {len(images)} images in {classes} classes; allowed:"
            f" {parts * classes} ({each}) to {len(images) - classes}, or null (all)"
        )
    rest, part = _stratified(images, count, seed)
    _complete(images.labels.numpy(), part, rest, parts, seed)
    return images.take(np.sort(part))


def _count(total: int, size: float) -> int:
    """How many of `total` images `size` is: a share where it is below 1."""
    return round(size * total) if size < 1 else int(size)


def _fits(total: int, images: Images, size: float) -> bool:
    """Whether `size` of `total` images leaves an image for each class on both sides."""
    classes = len(images.classes)
    return classes <= _count(total, size) <= total - classes


def _limit_error(images: Images, kept: int, val_size: float) -> DataError:
    """For a data.limit that leaves too few images for a data.val_size that all images would allow."""
    classes = len(images.classes)
    enough = next(total for total in range(kept, len(images) + 1) if _fits(total, images, val_size))
    return DataError(
        f"data.limit={kept}: leaves {_count(kept, val_size)} images to validate on (data.val_size={val_size:g}) and"
        f" {kept - _count(kept, val_size)} to train on, in {classes} classes that need one of each on both sides;"
        f" allowed: at least {enough}, or null (all)"
    )


def _check_classes(images: Images, least: int = 2) -> None:
    """Raises DataError where a class has fewer images than the parts that each need one."""
    counts = torch.bincount(images.labels, minlength=len(images.classes)).tolist()
    if min(counts) >= least:
        return
    listed = _smallest(counts, images.classes)
    if least > 2 and min(counts) >= 2:
        raise DataError(
            f"data.folds={least}: more folds than the smallest class has images, of all classes ({listed}); allowed: at"
            f" most {min(counts)}, so that each fold has an image of each class"
        )
    raise DataError(
        f"too few images to train and to validate on: the smallest has {min(counts)} of all classes ({listed});"
        " allowed: at least two images in each class; add some or remove the class"
    )


def _check_groups(images: Images, least: int, limit: int | None = None) -> None:
    """Raises DataError where the images of a class are in fewer groups than there are parts; `limit` is the cause."""
    if images.groups is None:
        return
    classes = len(images.classes)
    kinds = torch.unique(images.groups * classes + images.labels)
    counts = torch.bincount(kinds % classes, minlength=classes).tolist()
    if min(counts) >= least:
        return
    cause = f"data.limit={limit}: leaves too few groups (data.groups)" if limit else "data.groups: too few groups"
    remedies = ["a larger limit"] if limit else []
    remedies += ["fewer folds"] if least > 2 else []
    allowed = ", ".join([*remedies, f"at least {least} groups in each class"])
    raise DataError(
        f"{cause} to have each class in {least} parts without dividing a group; groups by class:"
        f" {_smallest(counts, images.classes)}; allowed: {allowed}"
    )


def _smallest(counts: list[int], classes: tuple[str, ...]) -> str:
    """The classes with their counts, the smallest first."""
    by_size = sorted(zip(counts, classes, strict=True))
    listed = ", ".join(f"{name} {count}" for count, name in by_size[:CLASSES_SHOWN])
    more = f", and {len(by_size) - CLASSES_SHOWN} larger ones" if len(by_size) > CLASSES_SHOWN else ""
    return f"{listed}{more}"


def _stratified(images: Images, count: int, seed: int) -> tuple[Indices, Indices]:
    """(rest, part): a random part of `count` images with the shares of classes that all have, rounded."""
    from sklearn.model_selection import train_test_split

    indices = np.arange(len(images))
    rest, part = train_test_split(indices, test_size=count, stratify=images.labels.numpy(), random_state=seed)
    return rest, part


def _complete(labels: Indices, side: Indices, other: Indices, least: int, seed: int) -> None:
    """Exchange images, in place, until `side` has `least` of each class: for images of its largest class.

    Rounding leaves small classes out. Where it has not, no random number is drawn and nothing changes.
    """
    generator = np.random.default_rng(seed)
    for label in range(int(labels.max()) + 1):
        while np.count_nonzero(labels[side] == label) < least:
            largest = np.bincount(labels[side]).argmax()
            given_up = generator.choice(np.flatnonzero(labels[side] == largest))
            taken = generator.choice(np.flatnonzero(labels[other] == label))
            side[given_up], other[taken] = other[taken], side[given_up]

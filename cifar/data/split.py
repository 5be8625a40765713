"""Stratified splits of images into those to train on and those to validate on, each with all classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cifar.data.images import DataError, Images, channel_statistics

Indices = NDArray[np.int64]
CLASSES_SHOWN = 20
"""Classes in one message, the smallest first."""


@dataclass(frozen=True)
class Splits:
    """The images to train on and to validate on; mean and std are of the channels of `train`, pixels in [0, 1]."""

    train: Images
    val: Images
    mean: list[float]
    std: list[float]


def prepare(images: Images, limit: int | None, val_size: float, val_seed: int) -> Splits:
    """Keep `limit` of the images (None: all), then set `val_size` apart to validate on (below 1: a share).

    A function of the images' labels and the arguments. Raises DataError where a side would lack a class.
    """
    kept = stratified_subset(images, limit, val_seed)
    if _fits(len(images), images, val_size) and not _fits(len(kept), images, val_size):
        raise _limit_error(images, len(kept), val_size)
    train, val = split(kept, val_size, val_seed)
    mean, std = channel_statistics(train.images)
    return Splits(train, val, mean, std)


def split(images: Images, size: float, seed: int) -> tuple[Images, Images]:
    """(rest, part): a stratified random part of `size` images (below 1: a share of all) and the rest, in file order.

    Both have an image of each class at least. A function of the images' labels, size and seed. Raises DataError where
    a class or either side is too small.
    """
    classes = len(images.classes)
    _check_classes(images)
    if not _fits(len(images), images, size):
        raise DataError(
            f"data.val_size={size:g}: cannot take {_count(len(images), size)} of {len(images)} images in {classes}"
            f" classes, because both sides need at least one image of each class; allowed: {classes} to"
            f" {len(images) - classes} images, or such a fraction"
        )
    rest, part = _stratified(images, _count(len(images), size), seed)
    _complete(images.labels.numpy(), part, rest, 1, seed)
    _complete(images.labels.numpy(), rest, part, 1, seed)
    return images.take(np.sort(rest)), images.take(np.sort(part))


def stratified_subset(images: Images, count: int | None, seed: int) -> Images:
    """A stratified random subset of `count` images; `images` itself for None or where there are no more than that.

    It has two images of each class at least, so that it can be split. Raises DataError where that is not possible.
    """
    if count is None or count >= len(images):
        return images
    classes = len(images.classes)
    _check_classes(images)
    if not 2 * classes <= count <= len(images) - classes:
        raise DataError(
            f"data.limit={count}: cannot take this number of {len(images)} images in {classes} classes; allowed:"
            f" {2 * classes} (two of each class, to train and to validate on) to {len(images) - classes}, or null (all)"
        )
    rest, part = _stratified(images, count, seed)
    _complete(images.labels.numpy(), part, rest, 2, seed)
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


def _check_classes(images: Images) -> None:
    """Raises DataError where a class cannot have an image on both sides."""
    counts = torch.bincount(images.labels, minlength=len(images.classes)).tolist()
    if min(counts) >= 2:
        return
    by_size = sorted(zip(counts, images.classes, strict=True))
    listed = ", ".join(f"{name} {count}" for count, name in by_size[:CLASSES_SHOWN])
    more = f", and {len(by_size) - CLASSES_SHOWN} larger ones" if len(by_size) > CLASSES_SHOWN else ""
    raise DataError(
        f"too few images to train and to validate on: the smallest has {min(counts)} of all classes ({listed}{more});"
        " allowed: at least two images in each class; add some or remove the class"
    )


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

"""Stratified splits of images into those to train on and those to validate on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cifar.data.images import DataError, Images, channel_statistics


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
    train, val = split(stratified_subset(images, limit, val_seed), val_size, val_seed)
    mean, std = channel_statistics(train.images)
    return Splits(train, val, mean, std)


def split(images: Images, size: float, seed: int) -> tuple[Images, Images]:
    """(rest, part): a stratified random part of `size` images (below 1: a share of all) and the rest, in file order.

    A function of the images' labels, size and seed. Raises DataError where a class or either side is too small.
    """
    from sklearn.model_selection import train_test_split

    labels = images.labels.numpy()
    count = _checked_count(images, size)
    rest, part = train_test_split(np.arange(len(images)), test_size=count, stratify=labels, random_state=seed)
    return images.take(np.sort(rest)), images.take(np.sort(part))


def _checked_count(images: Images, size: float) -> int:
    """How many images `size` is. Raises DataError where both sides cannot have an image of every class."""
    count = round(size * len(images)) if size < 1 else int(size)
    classes = len(images.classes)
    smallest = int(torch.bincount(images.labels, minlength=classes).min())
    if not classes <= count <= len(images) - classes or smallest < 2:
        raise DataError(
            f"data.val_size or data.limit={size:g}: cannot take {count} of {len(images)} images in {classes} classes"
            f" (the smallest has {smallest}); both sides need at least one image of each class"
        )
    return count


def stratified_subset(images: Images, count: int | None, seed: int) -> Images:
    """A stratified random subset of `count` images; `images` itself for None or where there are no more than that."""
    if count is None or count >= len(images):
        return images
    return split(images, count, seed)[1]

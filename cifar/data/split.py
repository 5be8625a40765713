"""Stratified splits of images."""

from __future__ import annotations

import logging

import numpy as np
import torch

from cifar.data.images import DataError, Images

log = logging.getLogger(__name__)


def split(images: Images, size: float, seed: int) -> tuple[Images, Images]:
    """(rest, part): a stratified random part of `size` images (below 1: a share of them) and the rest, in file order.

    A function of the images' labels, size and seed. Raises DataError where a class or either side is too small.
    """
    from sklearn.model_selection import train_test_split

    count = round(size * len(images)) if size < 1 else int(size)
    smallest = int(torch.bincount(images.labels, minlength=len(images.classes)).min())
    if not len(images.classes) <= count <= len(images) - len(images.classes) or smallest < 2:
        raise DataError(
            f"data.val_size or data.limit={size:g}: cannot take {count} of {len(images)} images in"
            f" {len(images.classes)} classes (the smallest has {smallest}); both sides need one of each class at least"
        )
    labels = images.labels.numpy()
    rest, part = train_test_split(np.arange(len(images)), test_size=count, stratify=labels, random_state=seed)
    return images.take(np.sort(rest)), images.take(np.sort(part))


def limit(images: Images, count: int | None, seed: int) -> Images:
    """A stratified random subset of `count` images; all of them for None or where there are no more."""
    if count is None or count >= len(images):
        return images
    return split(images, count, seed)[1]

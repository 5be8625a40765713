"""Stratified random splits of images, each side with all classes (data.split=random).

Where Images.groups says which images belong together, no group is on both sides.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from cifar.data.images import Images
from cifar.data.partition import partition
from cifar.data.split_checks import check_classes, check_fits, check_limit, part_size

Indices = NDArray[np.int64]


def split_fold(images: Images, folds: int, fold: int, seed: int) -> tuple[Images, Images]:
    """(rest, part): the part is one of `folds` stratified folds, from 0, of which each image is in one; in file order.

    Without groups, folds differ by one image of each class at most. A function of the images' labels and groups, folds,
    fold and seed. Raises DataError where a class has fewer images, or groups, than there are folds.
    """
    check_classes(images, folds)
    labels = images.labels.numpy()
    if images.groups is not None:
        parts = partition(labels, images.groups.numpy(), [1 / folds] * folds, seed)
        rest, part = np.flatnonzero(parts != fold), np.flatnonzero(parts == fold)
    else:
        from sklearn.model_selection import StratifiedKFold

        all_folds = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
        rest, part = next(islice(all_folds, fold, None))
    return images.take(rest), images.take(part)


def split(images: Images, size: float, seed: int, purpose: str = "val") -> tuple[Images, Images]:
    """(rest, part): a stratified random part of `size` images (below 1: a share of all) and the rest, in file order.

    Both have an image of each class at least. With groups, the size is as near to that as they allow. A function of the
    images' labels and groups, size and seed. Raises DataError where a class or either side is too small.
    """
    check_fits(images, size, f"{purpose}_size")
    count = part_size(len(images), size, len(images.classes))
    if images.groups is not None:
        share = count / len(images)
        parts = partition(images.labels.numpy(), images.groups.numpy(), [1 - share, share], seed)
        return images.take(np.flatnonzero(parts == 0)), images.take(np.flatnonzero(parts == 1))
    rest, part = _stratified(images.labels.numpy(), count, seed)
    _complete(images.labels.numpy(), part, rest, 1, seed)
    _complete(images.labels.numpy(), rest, part, 1, seed)
    return images.take(np.sort(rest)), images.take(np.sort(part))


def subset(images: Images, count: int | None, seed: int, parts: int = 2) -> Images:
    """A stratified random subset of `count` images; `images` itself for None or where there are no more than that.

    It has `parts` images of each class at least, so that it can be split into these. Of a group it may have some images
    only: the others are used nowhere. Raises DataError where that is not possible.
    """
    if count is None or count >= len(images):
        return images
    check_limit(images, count, parts)
    labels = images.labels.numpy()
    is_single = np.bincount(labels)[labels] == 1  # in its class: taken, as scikit-learn draws from two images or more
    singles, others = np.flatnonzero(is_single), np.flatnonzero(~is_single)
    rest, part = _stratified(labels[others], count - len(singles), seed)
    rest, part = others[rest], np.concatenate([singles, others[part]])
    _complete(labels, part, rest, parts, seed)
    return images.take(np.sort(part))


def _stratified(labels: Indices, count: int, seed: int) -> tuple[Indices, Indices]:
    """(rest, part): a random part of `count` images with the shares of classes that all have, rounded."""
    from sklearn.model_selection import train_test_split

    indices = np.arange(len(labels))
    rest, part = train_test_split(indices, test_size=count, stratify=labels, random_state=seed)
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

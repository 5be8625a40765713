"""How many images the parts of a split have, and what makes a split impossible, whichever way it is made."""

from __future__ import annotations

import torch

from cifar.data.images import DataError, Images

CLASSES_SHOWN = 20
"""Classes in one message, the smallest first."""


def part_size(total: int, size: float, classes: int) -> int:
    """How many of `total` images `size` is: a share where it is below 1, of which each side has one of each class."""
    return max(min(round(size * total), total - classes), classes) if size < 1 else int(size)


def fits(total: int, images: Images, size: float) -> bool:
    """Whether `size` of `total` images leaves an image for each class on both sides."""
    classes = len(images.classes)
    return classes <= part_size(total, size, classes) <= total - classes


def check_fits(images: Images, size: float, key: str = "val_size") -> None:
    """Raises DataError where `size` of the images, the value of data.KEY, leaves no image for each class on a side."""
    classes = len(images.classes)
    check_classes(images)
    if not fits(len(images), images, size):
        raise DataError(
            f"data.{key}={size:g}: cannot take {part_size(len(images), size, classes)} of {len(images)} images in"
            f" {classes} classes, because both sides need at least one image of each class; allowed: {classes} to"
            f" {len(images) - classes} images, or a fraction"
        )


def check_three_parts(images: Images, test_size: float) -> None:
    """Raises DataError where a class has fewer images than three parts need, of which the test part is one."""
    counts = torch.bincount(images.labels, minlength=len(images.classes)).tolist()
    if min(counts) < 3:
        raise DataError(
            f"data.test_size={test_size:g}: too few images to train, to validate and to test on; the smallest has"
            f" {min(counts)} of all classes ({_smallest(counts, images.classes)}); allowed: at least three images in"
            " each class, or data.test_size=0"
        )


def check_limit(images: Images, limit: int, parts: int) -> None:
    """Raises DataError where data.limit leaves too few images, or leaves out too few, for `parts` of each class."""
    classes = len(images.classes)
    check_classes(images, parts)
    if not parts * classes <= limit <= len(images) - classes:
        reasons = {1: "one of each class", 2: "two of each class, to train and to validate on"}
        each = reasons.get(parts, f"one of each class in {parts} folds")
        raise DataError(
            f"data.limit={limit}: cannot take this number of {len(images)} images in {classes} classes; allowed:"
            f" {parts * classes} ({each}) to {len(images) - classes}, or null (all)"
        )


def limit_error(images: Images, kept: int, val_size: float) -> DataError:
    """For a data.limit that leaves too few images for a number, data.val_size, that all images would allow."""
    classes = len(images.classes)
    enough = next(total for total in range(kept, len(images) + 1) if fits(total, images, val_size))
    return DataError(
        f"data.limit={kept}: leaves {int(val_size)} images to validate on (data.val_size={val_size:g}) and"
        f" {kept - int(val_size)} to train on, in {classes} classes that need one of each on both sides;"
        f" allowed: at least {enough}, or null (all)"
    )


def check_classes(images: Images, least: int = 2) -> None:
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


def check_groups(images: Images, least: int, limit: int | None = None) -> None:
    """Raises DataError where the images of a class are in fewer groups than there are parts; `limit` is the cause."""
    if images.groups is None:
        return
    classes = len(images.classes)
    numbers = torch.unique(images.groups, return_inverse=True)[1]  # group numbers have 63 bits
    kinds = torch.unique(numbers * classes + images.labels)
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

"""Images for calibration: a stratified part of the images to train on, for thresholds that are set after training."""

from __future__ import annotations

from dataclasses import replace

from cifar.data.images import DataError, Images, channel_statistics
from cifar.data.split import METHODS, Splits


def with_calibration(splits: Splits, size: float, seed: int, method: str = "random") -> Splits:
    """Set `size` of the images to train on apart, below 1 a share of those to train and validate on; 0: none.

    `method`: the value of data.split. Raises DataError where too few would be left.
    """
    if not size:
        return splits
    total = len(splits.train) + len(splits.val)
    train, calibration = _divided(splits.train, round(size * total) if size < 1 else int(size), seed, method)
    mean, std = channel_statistics(train.images)
    return replace(splits, train=train, calibration=calibration, mean=mean, std=std)


def _divided(images: Images, count: int, seed: int, method: str) -> tuple[Images, Images]:
    classes = len(images.classes)
    if not classes <= count <= len(images) - classes:
        raise DataError(
            f"data.calibration_size: cannot take {count} of the {len(images)} images that are left to train on, in"
            f" {classes} classes that need one on both sides; allowed: 0, or {classes} to {len(images) - classes}"
        )
    return METHODS[method].split(images, count, seed, "calibration")

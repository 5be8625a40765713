"""The images of a run, split into those to train on and those to validate on, each with all classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cifar.data import content_split, random_split
from cifar.data.images import Images, channel_statistics
from cifar.data.split_checks import check_groups, fits, limit_error
from cifar.options.splits import TRAINING_PART
from cifar.unsure import CALIBRATION, VALIDATION


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

    def held_out(self) -> tuple[str, Images]:
        """The images that thresholds are set on, and of which part they are: for calibration, else for validation."""
        return (VALIDATION, self.val) if self.calibration is None else (CALIBRATION, self.calibration)


class Method(Protocol):
    """A way to split: functions of a module, as cifar.data.random_split describes them."""

    def subset(self, images: Images, count: int | None, seed: int, parts: int = 2) -> Images: ...

    def split(self, images: Images, size: float, seed: int, purpose: str = "val") -> tuple[Images, Images]: ...

    def split_fold(self, images: Images, folds: int, fold: int, seed: int) -> tuple[Images, Images]: ...


METHODS: dict[str, Method] = {"random": random_split, "content": content_split}
"""By the value of data.split."""


def prepare(
    images: Images,
    limit: int | None,
    val_size: float,
    val_seed: int,
    folds: int | None = None,
    fold: int | None = None,
    method: str = "random",
) -> Splits:
    """Keep `limit` of the images (None: all), then set `val_size` apart to validate on (below 1: a share), or a fold.

    A function of the images' labels, groups and, by content, digests, and of the arguments. Raises DataError where a
    side would lack a class.
    """
    parts = folds or 2
    check_groups(images, parts)
    kept = METHODS[method].subset(images, limit, val_seed, parts)
    if kept is not images:
        check_groups(kept, parts, limit)
    if folds is not None and fold is not None:
        train, val = METHODS[method].split_fold(kept, folds, fold, val_seed)
    else:
        if fits(len(images), images, val_size) and not fits(len(kept), images, val_size):
            raise limit_error(images, len(kept), val_size)
        train, val = METHODS[method].split(kept, val_size, val_seed)
    mean, std = channel_statistics(train.images)
    return Splits(train, val, mean, std)

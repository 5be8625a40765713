"""config group augment: what is done to training images, each with a separate draw in every epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import MISSING

from cifar.options.data import Data
from cifar.options.fields import within
from cifar.options.left_open import AUTO
from cifar.options.option import Option, groups

BY_DATA = ("crop", "flip")
"""The keys that are null where the data source decides them."""


@dataclass
class Augment(Option):
    """Crops and flips (null: as they suit the data), erased rectangles, mixed images, and what the option adds."""

    group: ClassVar[str] = "augment"
    key: ClassVar[str] = "policy"
    piece: ClassVar[str] = ""
    """The import path of what makes the Piece of cifar.data.augment that the option adds, from height, width and the
    keys that only this option has."""

    policy: str = MISSING
    crop: int | None = within("[0, 64]")
    flip: bool | None = MISSING
    erase: float = within("[0, 1]")
    mixup: float = within("[0, 100]")
    cutmix: float = within("[0, 100]")

    def suited(self, data: Data) -> Augment:
        """With what suits the data in place of null."""
        return dataclasses.replace(self, **_filled(vars(self), data.suits(vars(data))))

    @property
    def changes_images(self) -> bool:
        """Whether two versions of an image differ."""
        return bool(self.crop or self.flip or self.piece or self.erase)


@dataclass
class NoAugment(Augment):
    """No augmentation: the images as they are."""

    policy: str = "none"


@dataclass
class CropFlip(Augment):
    """Random crops and horizontal flips, as they suit the data."""

    policy: str = "crop_flip"


@dataclass
class Trivial(Augment):
    """TrivialAugment (Müller and Hutter 2021): crop, flip, and one random operation of a random strength."""

    piece = "cifar.data.augment.policies.trivial"
    policy: str = "trivial"


@dataclass
class RandAugment(Augment):
    """RandAugment (Cubuk et al. 2020): crop, flip, and num_ops random operations of strength magnitude."""

    piece = "cifar.data.augment.policies.randaugment"
    policy: str = "randaugment"
    num_ops: int = within("[1, 14]")
    magnitude: int = within("[0, 30]")


@dataclass
class Auto(Augment):
    """Crops, flips and erasing; with much time for each image, or many epochs, TrivialAugment too."""

    policy: str = AUTO


def with_suited(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a run in which augment.crop and augment.flip are what `Augment.suited` makes of them."""
    augment, data = settings.get(Augment.group), settings.get(Data.group)
    if not isinstance(augment, Mapping):
        return dict(settings)
    data = data if isinstance(data, Mapping) else {}
    option = groups()[Data.group].options.get(str(data.get(Data.key)), Data)
    assert issubclass(option, Data)
    return {**settings, Augment.group: _filled(augment, option.suits(data))}


def _filled(settings: Mapping[str, Any], suits: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what suits the data in place of null."""
    values = {key: value for key, value in suits.items() if settings.get(key, "") is None}
    return {**settings, **values}

"""What one run does to its training images, from its settings."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cifar.data.augment.erase import Erase
from cifar.data.augment.mix import Mix
from cifar.data.images import Images
from cifar.options.augment import Augment

SHARED = {field.name for field in dataclasses.fields(Augment)}
"""The settings that all options of the group have."""


class Piece(Protocol):
    """One step of an augmentation."""

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """What is drawn for `count` images: (N, ...), on the CPU. The same number of draws for equal arguments."""

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """`images` (B, 3, H, W), which may be changed, each by its row of `draws`."""


@dataclass(frozen=True)
class Pieces:
    """`pixels` work on uint8 images, `normalised` on the float32 images that these become, `mix` on whole batches."""

    pixels: tuple[Piece, ...] = ()
    normalised: tuple[Piece, ...] = ()
    mix: Mix | None = None

    def draw(self, count: int, height: int, width: int, generator: torch.Generator | None) -> list[Tensor]:
        """The draws of each piece, in their order; none without a generator: nothing is done then."""
        if generator is None:
            return []
        draws = [piece.draw(count, height, width, generator) for piece in (*self.pixels, *self.normalised)]
        return draws if self.mix is None else [*draws, self.mix.draw(count, height, width, generator)]

    def change_pixels(self, images: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """Images uint8 (B, 3, H, W), with their rows of what `draw` returned."""
        for piece, drawn in zip(self.pixels, draws, strict=False):
            images = piece.apply(images, drawn)
        return images

    def change_batches(
        self, images: Tensor, labels: Tensor, batch_size: int, draws: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Normalised images (B, 3, H, W) and labels (B,) of whole batches, with their rows of what `draw` returned."""
        draws = draws[len(self.pixels) :]
        for piece, drawn in zip(self.normalised, draws, strict=False):
            images = piece.apply(images, drawn)
        if self.mix is None or not draws:
            return images, labels
        return self.mix.apply(images, labels, batch_size, draws[-1])


NO_PIECES = Pieces()


@dataclass(frozen=True)
class Augmentation:
    """Crops with `crop` pixels of zeros around an image, flips with probability 1/2, then the pieces.

    `name` says what the pieces do; it is empty where there are none.
    """

    crop: int
    flip: bool
    pieces: Pieces
    name: str


def build_augmentation(settings: Mapping[str, Any], policy: str, images: Images) -> Augmentation:
    """The augmentation of `images` that the settings of the group `augment` describe.

    `policy` is the import path of what makes the Piece of the policy, called with height, width and the settings that
    not all options have; empty where there is none.
    """
    height, width = images.images.shape[2:]
    special = {key: value for key, value in settings.items() if key not in SHARED}
    pixels: tuple[Piece, ...] = (pkgutil.resolve_name(policy)(height, width, **special),) if policy else ()
    erase, mixup, cutmix = settings["erase"], settings["mixup"], settings["cutmix"]
    normalised = (Erase(erase),) if erase else ()
    mix = Mix(mixup, cutmix, len(images.classes)) if mixup or cutmix else None
    does = {key: value for key, value in settings.items() if key not in ("policy", "crop", "flip") and value}
    name = " ".join([policy, *(f"{key} {value}" for key, value in does.items())]).strip()
    return Augmentation(settings["crop"], settings["flip"], Pieces(pixels, normalised, mix), name)

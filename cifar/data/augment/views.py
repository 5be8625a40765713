"""Augmented versions of a data set: what frozen features are computed of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cifar.data.augment.crop_flip import crop_and_flip, crop_windows, draw_crops_and_flips
from cifar.data.augment.draws import epoch_generator
from cifar.data.augment.erase import Erase
from cifar.data.augment.pieces import Augmentation, Piece
from cifar.data.images import Images
from cifar.data.pixels import Pixels
from cifar.data.resident import padded

CPU = torch.device("cpu")


@dataclass(frozen=True)
class AugmentedPixels:
    """uint8 (N, 3, H, W): those of a version, which are made of `pixels` where a slice of them is read.

    `pieces` work on pixels. The same for the same `view`, whatever the slices.
    """

    pixels: Pixels
    crop: int
    flip: bool
    pieces: tuple[Piece, ...]
    view: int

    @property
    def shape(self) -> torch.Size:
        return self.pixels.shape

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice) -> Tensor:
        originals = self.pixels[index]
        rows, columns, flips, *of_pieces = (drawn[index] for drawn in self._draws)
        windows = crop_windows(padded(originals, self.crop, CPU), self.crop)
        changed = crop_and_flip(windows, self.flip, torch.arange(len(originals)), rows, columns, flips)
        images = torch.empty_like(originals).copy_(changed)
        for piece, drawn in zip(self.pieces, of_pieces, strict=True):
            images = piece.apply(images, drawn)
        return images

    @cached_property
    def _draws(self) -> list[Tensor]:
        """Of all images, in their order: row and column of the crop, flip, and what each piece draws."""
        count, _, height, width = self.shape
        generator = epoch_generator(self.view, 1)
        order, *amounts = draw_crops_and_flips(count, self.crop, self.flip, generator)
        positions = order.argsort()
        of_pieces = [piece.draw(count, height, width, generator) for piece in self.pieces]
        return [*(drawn[positions] for drawn in amounts), *of_pieces]


@dataclass(frozen=True)
class Version:
    """An augmented version of images, with a fingerprint of all that its pixels depend on; nothing is read for that."""

    images: AugmentedPixels
    fingerprint: str

    def __len__(self) -> int:
        return len(self.images)


def versions(
    images: Images, augmentation: Augmentation, mean: Sequence[float], views: int
) -> Iterator[Images | Version]:
    """The images as they are, or `views` augmented versions of them where there are more than one, one at a time."""
    if views == 1:
        yield images
        return
    for view in range(views):
        yield augmented(images, augmentation, mean, view)


def augmented(images: Images, augmentation: Augmentation, mean: Sequence[float], view: int) -> Version:
    """A version of every image, in the order of `images`: the same for the same `view`.

    Erased rectangles get the colour `mean`, of pixels in [0, 1].
    """
    crop, flip, pieces = augmentation.crop, augmentation.flip, augmentation.pieces
    colour = torch.tensor(mean).mul(255).round().to(torch.uint8)
    on_pixels = (*pieces.pixels, *(_on_pixels(piece, colour) for piece in pieces.normalised))
    filled = f"colour {colour.tolist()}" if pieces.normalised else ""
    text = f"{images.fingerprint} crop {crop} flip {flip} view {view} {augmentation.name} {filled}".strip()
    pixels = AugmentedPixels(images.images, crop, flip, on_pixels, view)
    return Version(pixels, hashlib.sha256(text.encode()).hexdigest())


def _on_pixels(piece: Piece, colour: Tensor) -> Piece:
    """A piece for normalised images, as one for pixels; `colour` uint8 (3,)."""
    assert isinstance(piece, Erase)
    return dataclasses.replace(piece, value=colour.view(3, 1, 1))

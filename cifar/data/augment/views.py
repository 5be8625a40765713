"""Augmented copies of a data set: what frozen features are computed of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cifar.data.augment.crop_flip import crop_and_flip, crop_windows, draw_crops_and_flips
from cifar.data.augment.draws import epoch_generator
from cifar.data.augment.erase import Erase
from cifar.data.augment.pieces import Augmentation, Piece
from cifar.data.images import Images
from cifar.data.resident import padded

AT_ONCE = 1024
"""Images that the pieces work on at once."""


def versions(images: Images, augmentation: Augmentation, mean: Sequence[float], views: int) -> Iterator[Images]:
    """The images as they are, or `views` augmented versions of them where there are more than one, one at a time."""
    if views == 1:
        yield images
        return
    for view in range(views):
        yield augmented(images, augmentation, mean, view)


def augmented(images: Images, augmentation: Augmentation, mean: Sequence[float], view: int) -> Images:
    """A version of every image, in the order of `images`: the same for the same `view`.

    Erased rectangles get the colour `mean`, of pixels in [0, 1].
    """
    crop, flip, pieces = augmentation.crop, augmentation.flip, augmentation.pieces
    generator = epoch_generator(view, 1)
    all_pixels = images.images[:]
    windows = crop_windows(padded(all_pixels, crop, torch.device("cpu")), crop)
    order, *amounts = draw_crops_and_flips(len(images), crop, flip, generator)
    pixels = torch.empty_like(all_pixels)
    pixels[order] = crop_and_flip(windows, flip, order, *amounts)
    for piece in (*pieces.pixels, *(_on_pixels(piece, mean) for piece in pieces.normalised)):
        _apply(piece, pixels, generator)
    text = f"{images.fingerprint} crop {crop} flip {flip} view {view} {augmentation.name}".strip()
    return dataclasses.replace(images, images=pixels, fingerprint=hashlib.sha256(text.encode()).hexdigest())


def _on_pixels(piece: Piece, mean: Sequence[float]) -> Piece:
    """A piece for normalised images, as one for pixels."""
    assert isinstance(piece, Erase)
    colour = torch.tensor(mean).mul(255).round().to(torch.uint8).view(3, 1, 1)
    return dataclasses.replace(piece, value=colour)


def _apply(piece: Piece, pixels: Tensor, generator: torch.Generator) -> None:
    count, _, height, width = pixels.shape
    draws = piece.draw(count, height, width, generator)
    for images, drawn in zip(torch.split(pixels, AT_ONCE), torch.split(draws, AT_ONCE), strict=True):
        images.copy_(piece.apply(images.clone(), drawn))

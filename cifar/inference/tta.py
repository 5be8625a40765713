"""Test-time augmentation: probabilities are averaged over several views of an image.

none    the image as it is
flip    the image and its mirror image: 2 views
crops   the image, moved by 1/16 of its size to each of the four corners, and the mirror images of these: 10 views, as
        Krizhevsky et al. (ImageNet Classification with Deep Convolutional Neural Networks, 2012) average over the
        centre, the corners and their mirror images. What is moved in is black, as in the crops of training.

A view is an image uint8 too, so that every model can be used in this way, exported ones as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 16
"""A crop is moved by the size divided by this: 2 pixels of 32."""


def unchanged(images: Tensor) -> Iterator[Tensor]:
    yield images


def flip(images: Tensor) -> Iterator[Tensor]:
    yield images
    yield images.flip(3)


def crops(images: Tensor) -> Iterator[Tensor]:
    size = images.shape[3]
    shift = max(1, round(size / SHARE))
    padded = F.pad(images, (shift,) * 4)
    for row, column in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
        top, left = row * shift, column * shift
        yield from flip(padded[:, :, top : top + size, left : left + size])


TTA: dict[str, Callable[[Tensor], Iterator[Tensor]]] = {"none": unchanged, "flip": flip, "crops": crops}
IN_WORDS = {
    "none": "",
    "flip": "averaged over the image and its mirror image (--tta flip)",
    "crops": "averaged over 5 crops and their mirror images (--tta crops)",
}


def averaged(probabilities: Callable[[Tensor], Tensor], images: Tensor, tta: str) -> Tensor:
    """The mean of probabilities (B, classes) over the views of images uint8 (B, 3, H, W)."""
    return torch.stack([probabilities(view.contiguous()) for view in TTA[tta](images)]).mean(0)

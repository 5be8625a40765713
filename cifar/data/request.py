"""What is asked of a source of images: which part of it, and the input format that its images are brought to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Fit = Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]
FORMER_SIZE = 32
"""Pixels of the images of versions that knew no other size; their cache entries are used."""


@dataclass(frozen=True)
class InputFormat:
    """Images of `size` x `size` pixels.

    fit  crop     the shorter side becomes `resize` pixels (None: `size`), then the centre is cut out
         stretch  both sides become `size` pixels
         pad      the longer side becomes `size` pixels, the rest is black
    """

    size: int = FORMER_SIZE
    fit: str = "crop"
    resize: int | None = None
    interpolation: str = "bilinear"

    @property
    def change(self) -> str:
        """What is done to images of other sizes, in words."""
        words = {"crop": "cropped to a square and resized", "stretch": "stretched", "pad": "resized and padded"}
        return f"{words[self.fit]} to {self.size}x{self.size}"

    def scale(self, size: tuple[int, int]) -> float:
        """By what an image of this width and height is scaled; in the direction that is scaled least."""
        if self.fit == "crop":
            return (self.resize or self.size) / min(size)
        return self.size / (min(size) if self.fit == "stretch" else max(size))

    def apply(self, image: Image.Image) -> Image.Image:
        """The image in this format; `image` itself where it has it."""
        if self._is_met(image.size):
            return image
        fits: dict[str, Fit] = {"crop": self._crop, "stretch": _stretch, "pad": _pad}
        return fits[self.fit](image, (self.size, self.size), Image.Resampling[self.interpolation.upper()])

    def _is_met(self, size: tuple[int, ...]) -> bool:
        return size == (self.size, self.size) and self.resize in (None, self.size)

    def _crop(self, image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
        if self.resize in (None, self.size):
            return ImageOps.fit(image, size, resampling)
        side = min(image.size) * self.size / self.resize
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return image.resize(size, resampling, (left, top, left + side, top + side))

    def apply_to_all(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """RGB images (N, H, W, 3) in this format."""
        if self._is_met(pixels.shape[1:3]):
            return pixels
        return np.stack([np.asarray(self.apply(Image.fromarray(image))) for image in pixels])


def _stretch(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    return image.resize(size, resampling)


def _pad(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    return ImageOps.pad(image, size, resampling, color=(0, 0, 0))


OR_WITHOUT = {
    "train": "",
    "val": "; or set data.val_from=training_part",
    "test": "; or set test=false, and another data.val_from than test_part",
}
"""By part: how to do without one that is missing; the end of an error."""


@dataclass(frozen=True)
class Request:
    """`part`: "train", "val" or "test"; the others are not read.

    `in_memory`: bytes of images at most that are kept in memory; where there are more, they stay in `cache_dir`. 0: all
    do, as they are needed once.
    """

    part: str
    cache_dir: Path
    format: InputFormat = field(default_factory=InputFormat)
    in_memory: int = sys.maxsize

"""Random erasing (Zhong et al., 2020), as torchvision's RandomErasing: a rectangle of an image gets one colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

AREA = (0.02, 0.33)
"""Shares of the image."""
RATIO = (0.3, 3.3)
"""Height by width."""
ATTEMPTS = 10
"""Rectangles that are drawn until one is smaller than the image."""


@dataclass(frozen=True)
class Erase:
    """Erases a rectangle with this probability.

    `value` is the colour, (3, 1, 1) of the images' type or a number: 0 is the mean colour of normalised images.
    """

    probability: float
    value: Tensor | float = 0.0

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """top, left, bottom and right of each rectangle, int64 (N, 4); empty ones erase nothing."""
        erases = torch.rand(count, generator=generator) < self.probability
        area = _uniform((count, ATTEMPTS), AREA, generator) * height * width
        ratio = _uniform((count, ATTEMPTS), (math.log(RATIO[0]), math.log(RATIO[1])), generator).exp()
        heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (heights < height) & (widths < width)
        first = fits.int().argmax(1, keepdim=True)
        high, wide = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
        across, down = torch.rand((2, count), generator=generator, dtype=torch.float64)
        top, left = (down * (height - high + 1)).floor(), (across * (width - wide + 1)).floor()
        boxes = torch.stack([top, left, top + high, left + wide], 1).long()
        return boxes * (erases & fits.any(1)).unsqueeze(1)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """images (B, 3, H, W); `draws` (B, 4)."""
        inside = in_boxes(draws.to(images.device, non_blocking=True), images.shape[2], images.shape[3])
        return torch.where(inside, self.value, images)


def in_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Whether a pixel is in the box of its image: bool (B, 1, H, W), of top, left, bottom, right int64 (B, 4)."""
    top, left, bottom, right = boxes.view(-1, 4, 1).unbind(1)
    rows, columns = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    down, across = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (down.unsqueeze(2) & across.unsqueeze(1)).unsqueeze(1)


def _uniform(shape: tuple[int, int], ends: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = ends
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low

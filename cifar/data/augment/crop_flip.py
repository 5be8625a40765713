"""Random crops and flips: an index into images that lie on the device with a border, so they cost next to nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_crops_and_flips(count: int, crop: int, flip: bool, generator: torch.Generator | None) -> list[Tensor]:
    """For `count` images: a random order, the row and the column of each crop (int64), and flips (bool); (N,) each.

    Without a generator: the order as it is, crops in the centre, no flips.
    """
    if generator is None:
        centre = torch.full((count,), crop)
        return [torch.arange(count), centre, centre, torch.zeros(count, dtype=torch.bool)]
    # The order is drawn between crops and flips: all earlier results depend on that.
    rows, columns = torch.randint(2 * crop + 1, (2, count), generator=generator)
    order = torch.randperm(count, generator=generator)
    flips = torch.rand(count, generator=generator) < flip / 2
    return [order, rows, columns, flips]


def crop_windows(images: Tensor, crop: int) -> Tensor:
    """All crops of images (N, C, H + 2 crop, W + 2 crop): a view (N, C, 2 crop + 1, 2 crop + 1, H, W)."""
    height = images.shape[2] - 2 * crop
    width = images.shape[3] - 2 * crop
    return images.unfold(2, height, 1).unfold(3, width, 1)


def crop_and_flip(windows: Tensor, flip: bool, order: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
    """The crop of each image at `order`, (B, C, H, W), mirrored where `flips` says so."""
    images = windows[order, :, rows, columns]
    if not flip:
        return images
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)

"""Random crops and flips: drawn for a whole epoch from a generator, applied on the device that holds the images."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from cifar.data.images import Images
from cifar.data.resident import padded


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random generator of epoch `epoch` (from 1) of a run with this seed."""
    # A generator takes 32 bits of its seed only: draw that of the epoch from the stream of the run's seed.
    stream = torch.Generator().manual_seed(seed)
    epoch_seeds = torch.randint(2**32, (epoch,), generator=stream)
    return torch.Generator().manual_seed(int(epoch_seeds[-1]))


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


def augmented(images: Images, crop: int, flip: bool, view: int) -> Images:
    """A random crop and flip of every image, in the order of `images`: the same for the same `view`."""
    all_pixels = images.images[:]
    windows = crop_windows(padded(all_pixels, crop, torch.device("cpu")), crop)
    order, *amounts = draw_crops_and_flips(len(images), crop, flip, epoch_generator(view, 1))
    pixels = torch.empty_like(all_pixels)
    pixels[order] = crop_and_flip(windows, flip, order, *amounts)
    name = f"{images.fingerprint} crop {crop} flip {flip} view {view}"
    return replace(images, images=pixels, fingerprint=hashlib.sha256(name.encode()).hexdigest())

"""Batches, made where the data lie: of images (index, crop, flip, normalise), or of features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

AT_ONCE = {"cpu": 0, "cuda": 2**25}
"""Bytes of rows made at once, or else a batch: on a GPU a kernel takes longer to launch than to make a few batches."""


class EpochLoader:
    """Batches of rows and their labels int64 (B,), epoch by epoch; with a `seed` shuffled.

    The order is a function of (seed, epoch). `shape` is that of one row.
    """

    shape: tuple[int, ...]

    def __init__(self, labels: Tensor, batch_size: int, device: torch.device, seed: int | None) -> None:
        self.labels, self.batch_size, self.seed = labels.to(device), batch_size, seed

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.labels) // self.batch_size)

    @property
    def total(self) -> int:
        """Rows in an epoch."""
        return len(self.labels)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` (from 1)."""
        drawn = [self._send(tensor) for tensor in self.draw(number)]
        batch_bytes = 4 * self.batch_size * math.prod(self.shape)
        batches = max(1, AT_ONCE[self.labels.device.type] // batch_bytes)
        for parts in zip(*(tensor.split(batches * self.batch_size) for tensor in drawn), strict=True):
            order, *how = parts
            made = self._make(order, *how), self.labels[order]
            yield from zip(*(tensor.split(self.batch_size) for tensor in made), strict=True)

    def draw(self, number: int) -> list[Tensor]:
        """The order of the rows in epoch `number`, and what is done to each, (N,); the same for every device."""
        return self._draw(self._generator(number))

    def _generator(self, number: int) -> torch.Generator | None:
        """The epoch's own; None without a seed."""
        if self.seed is None:
            return None
        # A generator takes 32 bits of its seed only: draw the epoch's own from the stream of the run's seed.
        stream = torch.Generator().manual_seed(self.seed)
        return torch.Generator().manual_seed(int(torch.randint(2**32, (number,), generator=stream)[-1]))

    def _send(self, tensor: Tensor) -> Tensor:
        """To the device; from pinned memory, so that a GPU is not waited for."""
        device = self.labels.device
        return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

    def _draw(self, generator: torch.Generator | None) -> list[Tensor]:
        raise NotImplementedError

    def _make(self, order: Tensor, *how: Tensor) -> Tensor:
        """The rows at `order`."""
        raise NotImplementedError


def padded(images: Tensor, crop: int, device: torch.device) -> Tensor:
    """images uint8 (N, C, H, W) on `device`, channels_last, with `crop` pixels of zeros around them."""
    return _arrived(F.pad(images.to(device), [crop] * 4).contiguous(memory_format=torch.channels_last))


def stacked(device: torch.device, *views: Tensor) -> Tensor:
    """Features (N, F) of each view as (K, N, F) on `device`."""
    return _arrived((torch.stack(views) if len(views) > 1 else views[0][None]).to(device))


def _arrived(moved: Tensor) -> Tensor:
    """It is there when this returns: runs on other streams may use it too."""
    if moved.is_cuda:
        torch.cuda.current_stream(moved.device).synchronize()
    return moved


class ImageLoader(EpochLoader):
    """Batches of images float32 (B, 3, H, W), channels_last, and labels int64 (B,).

    `images` uint8 (N, 3, H, W) and `labels` int64 (N,) go to `device` once, the images by `pad`. With a `seed`, an
    epoch is shuffled, cropped (H x W windows of the images with `crop` pixels of zeros around them) and flipped with
    probability 1/2 if `flip`; all of it is a function of (seed, epoch), whatever the device. `mean` and `std` are of
    pixels in [0, 1]; None: 0 and 1. Bit-equal, for equal offsets, to torchvision's RandomCrop, RandomHorizontalFlip,
    ToTensor and Normalize on PIL images.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        device: torch.device,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        crop: int = 0,
        flip: bool = False,
        seed: int | None = None,
        pad: Callable[[Tensor, int, torch.device], Tensor] = padded,
    ) -> None:
        super().__init__(labels, batch_size, device, seed)
        self.crop, self.flip = crop, flip
        self.shape = tuple(images.shape[1:])
        channels, height, width = self.shape
        whole = pad(images, crop, device)
        self.windows = whole.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2 crop + 1, 2 crop + 1, H, W), a view
        # Whole tiles instead of (1, C, 1, 1): the innermost dimension in memory is C, and broadcasting it is slow.
        tile = torch.ones(1, channels, height, width, device=device).contiguous(memory_format=torch.channels_last)
        self.mean = tile * torch.tensor(mean or [0.0] * channels, device=device).view(1, -1, 1, 1)
        self.std = tile * torch.tensor(std or [1.0] * channels, device=device).view(1, -1, 1, 1)

    def _draw(self, generator: torch.Generator | None) -> list[Tensor]:
        """Order, row and column offsets int64 and flips bool."""
        n = self.total
        if generator is None:
            zeros = torch.full((n,), self.crop)
            return [torch.arange(n), zeros, zeros, zeros > self.crop]
        offsets = torch.randint(2 * self.crop + 1, (2, n), generator=generator)
        order = torch.randperm(n, generator=generator)
        return [order, *offsets, torch.rand(n, generator=generator) < self.flip / 2]

    def _make(self, order: Tensor, *how: Tensor) -> Tensor:
        return self.pixels(order, *how).to(torch.float32).div_(255).sub_(self.mean).div_(self.std)

    def pixels(self, order: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
        """uint8 (B, C, H, W), cropped and flipped."""
        window = self.windows[order, :, rows, columns]
        if self.flip:
            window = torch.where(flips.view(-1, 1, 1, 1), window.flip(3), window)
        return window


class FeatureLoader(EpochLoader):
    """Batches of features float32 (B, F) of `features` (K, N, F); the view of each row is drawn anew in every epoch."""

    def __init__(
        self, features: Tensor, labels: Tensor, batch_size: int, device: torch.device, seed: int | None = None
    ) -> None:
        super().__init__(labels, batch_size, device, seed)
        self.features = features.to(device)
        self.shape = tuple(features.shape[2:])

    def _draw(self, generator: torch.Generator | None) -> list[Tensor]:
        if generator is None:
            return [torch.arange(self.total), torch.zeros(self.total, dtype=torch.int64)]
        views = torch.randint(len(self.features), (self.total,), generator=generator)
        return [torch.randperm(self.total, generator=generator), views]

    def _make(self, order: Tensor, *how: Tensor) -> Tensor:
        (views,) = how
        return self.features[views, order]

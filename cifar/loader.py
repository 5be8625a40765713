"""Batches of images, made where the data lie: index, crop, flip, normalise."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


class Batches:
    """Batches of images float32 (B, 3, H, W), channels_last, and labels int64 (B,).

    `images` uint8 (N, 3, H, W) and `labels` int64 (N,) go to `device` once. With a `seed`, an epoch is shuffled,
    cropped (H x W windows of the images with `crop` pixels of zeros around them) and flipped with probability 1/2 if
    `flip`; all of it is a function of (seed, epoch), whatever the device. `mean` and `std` are of pixels in [0, 1];
    None: 0 and 1. Bit-equal, for equal offsets, to torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and
    Normalize on PIL images.
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
    ) -> None:
        self.batch_size, self.crop, self.flip, self.seed = batch_size, crop, flip, seed
        self.labels = labels.to(device)
        channels, height, width = images.shape[1:]
        padded = F.pad(images.to(device), [crop] * 4).contiguous(memory_format=torch.channels_last)
        self.windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 2 crop + 1, 2 crop + 1, H, W), a view
        # Whole tiles instead of (1, C, 1, 1): the innermost dimension in memory is C, and broadcasting it is slow.
        tile = torch.ones(1, channels, height, width, device=device).contiguous(memory_format=torch.channels_last)
        self.mean = tile * torch.tensor(mean or [0.0] * channels, device=device).view(1, -1, 1, 1)
        self.std = tile * torch.tensor(std or [1.0] * channels, device=device).view(1, -1, 1, 1)

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.labels) // self.batch_size)

    @property
    def total(self) -> int:
        """Images in an epoch."""
        return len(self.labels)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` (from 1)."""
        order, rows, columns, flips = self._draw(number)
        for start in range(0, self.total, self.batch_size):
            part = slice(start, start + self.batch_size)
            yield self._images(order[part], rows[part], columns[part], flips[part]), self.labels[order[part]]

    def _draw(self, number: int) -> list[Tensor]:
        """Order, row and column offsets (N,) int64 and flips (N,) bool; drawn on the CPU, the same for every device."""
        n = self.total
        if self.seed is None:
            zeros = torch.full((n,), self.crop)
            drawn = [torch.arange(n), zeros, zeros, zeros > self.crop]
        else:
            # A generator takes 32 bits of its seed only: draw the epoch's own from the stream of the run's seed.
            stream = torch.Generator().manual_seed(self.seed)
            own = int(torch.randint(2**32, (number,), generator=stream)[-1])
            generator = torch.Generator().manual_seed(own)
            offsets = torch.randint(2 * self.crop + 1, (2, n), generator=generator)
            drawn = [
                torch.randperm(n, generator=generator),
                *offsets,
                torch.rand(n, generator=generator) < self.flip / 2,
            ]
        return [self._send(tensor) for tensor in drawn]

    def _send(self, tensor: Tensor) -> Tensor:
        """To the device; from pinned memory, so that a GPU is not waited for."""
        device = self.labels.device
        return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

    def _images(self, order: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
        window = self.windows[order, :, rows, columns]
        if self.flip:
            window = torch.where(flips.view(-1, 1, 1, 1), window.flip(3), window)
        return window.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)

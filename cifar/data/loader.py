"""Batches, made on the device that holds the data: of images (index, augment, normalise), or of features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cifar.data.augment.crop_flip import crop_and_flip, crop_windows, draw_crops_and_flips
from cifar.data.augment.draws import epoch_generator
from cifar.data.augment.pieces import NO_PIECES, Pieces
from cifar.data.pixels import OnDisk, Pixels
from cifar.data.resident import padded

BYTES_AT_ONCE = {"cpu": 0, "cuda": 2**25}
"""Bytes of rows that are made at once, at least one batch.

On a GPU, launching a kernel takes longer than making a few batches with it.
"""
WITH_PIECES = 2**22
"""At least so many bytes at once where images go through pieces: each operation works on its share of them."""


class EpochLoader:
    """Batches of rows and their labels, epoch by epoch; shuffled where there is a `seed`.

    Labels are int64 (B,), or float32 (B, classes) where images are mixed.

    The order is a function of (seed, epoch). `shape` is that of one row.
    """

    shape: tuple[int, ...]

    def __init__(self, labels: Tensor, batch_size: int, device: torch.device, seed: int | None) -> None:
        self.labels = labels.to(device)
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.labels) // self.batch_size)

    @property
    def total(self) -> int:
        """Rows in an epoch."""
        return len(self.labels)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number` (from 1)."""
        draws = self._prepare(self.draw(number))
        chunk = self._batches_at_once() * self.batch_size
        for order, *amounts in zip(*(torch.split(tensor, chunk) for tensor in draws), strict=True):
            rows, labels = self._make(order, *amounts)
            yield from zip(torch.split(rows, self.batch_size), torch.split(labels, self.batch_size), strict=True)

    def draw(self, number: int) -> list[Tensor]:
        """The order of the rows in epoch `number`, and what is done to each, (N,); the same on every device."""
        return self._draw(None if self.seed is None else epoch_generator(self.seed, number))

    def _batches_at_once(self) -> int:
        batch_bytes = 4 * self.batch_size * math.prod(self.shape)
        return max(1, self._bytes_at_once() // batch_bytes)

    def _bytes_at_once(self) -> int:
        return BYTES_AT_ONCE[self.labels.device.type]

    def _prepare(self, draws: list[Tensor]) -> list[Tensor]:
        """The draws, where they are needed."""
        return [self._send(tensor) for tensor in draws]

    def _send(self, tensor: Tensor) -> Tensor:
        """Copy to the device; from pinned memory, so that the CPU does not wait for a GPU."""
        device = self.labels.device
        source = tensor.pin_memory() if device.type == "cuda" else tensor
        return source.to(device, non_blocking=True)

    def _draw(self, generator: torch.Generator | None) -> list[Tensor]:
        raise NotImplementedError

    def _make(self, order: Tensor, *amounts: Tensor) -> tuple[Tensor, Tensor]:
        """The rows at `order` and their labels; `order` is that of some whole batches."""
        raise NotImplementedError


class ImageLoader(EpochLoader):
    """Batches of images float32 (B, 3, H, W), channels_last, and labels.

    `images` uint8 (N, 3, H, W) and `labels` int64 (N,) go to `device` once, the images by `pad`; those on disk are read
    batch by batch. With a `seed`, an epoch is shuffled, cropped (H x W windows of the images with `crop` pixels of
    zeros around them) and flipped with probability 1/2 if `flip`, and goes through `pieces`; all of it is a function of
    (seed, epoch), whatever the device. `mean` and `std` are of pixels in [0, 1]; None: 0 and 1. Bit-equal, for equal
    offsets, to torchvision's RandomCrop, RandomHorizontalFlip, ToTensor and Normalize on PIL images.
    """

    def __init__(
        self,
        images: Pixels,
        labels: Tensor,
        batch_size: int,
        device: torch.device,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        crop: int = 0,
        flip: bool = False,
        seed: int | None = None,
        pad: Callable[[Tensor, int, torch.device], Tensor] = padded,
        pieces: Pieces = NO_PIECES,
    ) -> None:
        super().__init__(labels, batch_size, device, seed)
        self.crop = crop
        self.flip = flip
        self.pieces = pieces
        self.shape = tuple(images.shape[1:])
        self.windows = None if isinstance(images, OnDisk) else crop_windows(pad(images, crop, device), crop)
        self.images = images
        channels = self.shape[0]
        self.mean = self._tile(mean or [0.0] * channels)
        self.std = self._tile(std or [1.0] * channels)

    def _tile(self, values: list[float]) -> Tensor:
        """A value for each channel as (1, C, H, W), channels_last.

        Not (1, C, 1, 1): the innermost dimension in memory is C, and broadcasting it is slow.
        """
        ones = torch.ones(1, *self.shape, device=self.labels.device).contiguous(memory_format=torch.channels_last)
        return ones * torch.tensor(values, device=self.labels.device).view(1, -1, 1, 1)

    def pixels(self, batch: Tensor) -> Tensor:
        """Normalised images float32 (B, 3, H, W) as pixels again: uint8 on the CPU."""
        values = batch.mul(self.std).add_(self.mean).mul_(255)
        return values.round_().clamp_(0, 255).to("cpu", torch.uint8)

    def _draw(self, generator: torch.Generator | None) -> list[Tensor]:
        crops_and_flips = draw_crops_and_flips(self.total, self.crop, self.flip, generator)
        _, height, width = self.shape
        # Pieces draw last, so that the rest is the same with and without them.
        return [*crops_and_flips, *self.pieces.draw(self.total, height, width, generator)]

    def _bytes_at_once(self) -> int:
        return max(super()._bytes_at_once(), WITH_PIECES if self.pieces.pixels else 0)

    def _prepare(self, draws: list[Tensor]) -> list[Tensor]:
        """Those of the pieces stay on the CPU, where they are sorted by operation; so does the order of reading."""
        order, crops_and_flips, of_pieces = draws[0], draws[1:4], draws[4:]
        if self.windows is not None:
            order = self._send(order)
        return [order, *super()._prepare(crops_and_flips), *of_pieces]

    def _make(self, order: Tensor, *amounts: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, flips, *of_pieces = amounts
        images = self._crops_and_flips(order, rows, columns, flips)
        labels = self.labels[order if self.windows is not None else self._send(order)]
        pixels = self.pieces.change_pixels(images, of_pieces)
        images = pixels.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)
        return self.pieces.change_batches(images, labels, self.batch_size, of_pieces)

    def _crops_and_flips(self, order: Tensor, *amounts: Tensor) -> Tensor:
        if self.windows is not None:
            return crop_and_flip(self.windows, self.flip, order, *amounts)
        device = self.labels.device
        windows = crop_windows(padded(self.images[order], self.crop, device), self.crop)
        return crop_and_flip(windows, self.flip, torch.arange(len(order), device=device), *amounts)


class FeatureLoader(EpochLoader):
    """Batches of features float32 (B, F) of `features` (K, N, F); each row's view is drawn again in every epoch."""

    def __init__(
        self, features: Tensor, labels: Tensor, batch_size: int, device: torch.device, seed: int | None = None
    ) -> None:
        super().__init__(labels, batch_size, device, seed)
        self.features = features.to(device)
        self.shape = tuple(features.shape[2:])

    def _draw(self, generator: torch.Generator | None) -> list[Tensor]:
        """The order and the views, int64."""
        if generator is None:
            return [torch.arange(self.total), torch.zeros(self.total, dtype=torch.int64)]
        views = torch.randint(len(self.features), (self.total,), generator=generator)
        return [torch.randperm(self.total, generator=generator), views]

    def _make(self, order: Tensor, *amounts: Tensor) -> tuple[Tensor, Tensor]:
        (views,) = amounts
        return self.features[views, order], self.labels[order]

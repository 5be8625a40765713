"""The pixels of images: a tensor in memory, or rows of a file that are read where they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BLOCK_BYTES = 2**24
"""Bytes of images that are read or decoded at once where not all are in memory."""


class OnDisk:
    """Images uint8 (N, 3, H, W) in a file: `pixels[index]` reads those at a slice or at indices (K,) into a tensor.

    `rows`: their positions (K,) in the file. It stays open, so that its entry may be removed meanwhile.
    Several processes and threads may read it.
    """

    dtype = torch.uint8

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], rows: Tensor | None = None) -> None:
        self._file = path.open("rb", buffering=0)
        self.path = path
        self._offset = offset
        self._stored = shape
        self.rows = torch.arange(shape[0]) if rows is None else rows
        self._row_shape = shape[1:]
        self._row_bytes = int(np.prod(shape[1:]))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self._row_shape))

    def __len__(self) -> int:
        return len(self.rows)

    def all(self) -> OnDisk:
        """All images in the file, of which these are some."""
        return self._with_rows(torch.arange(self._stored[0]))

    def version(self) -> list[int]:
        """Size, time (ns), inode and place in the file: other ones where the images in it may be others."""
        status = os.fstat(self._file.fileno())
        return [status.st_size, status.st_mtime_ns, status.st_ino, self._offset, *self._stored]

    def take(self, indices: Tensor) -> OnDisk:
        """The images at `indices` (K,), which stay in the file."""
        return self._with_rows(self.rows[indices])

    def _with_rows(self, rows: Tensor) -> OnDisk:
        taken = object.__new__(OnDisk)
        taken.__dict__.update(vars(self) | {"rows": rows})
        return taken

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        rows = self.rows[index].tolist()
        pixels = torch.empty((len(rows), *self._row_shape), dtype=torch.uint8)
        buffer = pixels.numpy().data.cast("B") if rows else memoryview(b"")
        done = 0
        for first, count in _runs(rows):
            end = done + count * self._row_bytes
            self._read(buffer[done:end], self._offset + first * self._row_bytes)
            done = end
        return pixels

    def _read(self, buffer: memoryview, offset: int) -> None:
        """Fill the buffer. Raises OSError where the file is shorter than it was."""
        while buffer:
            count = os.preadv(self._file.fileno(), [buffer], offset)
            if not count:
                raise OSError(f"{self.path}: ended before byte {offset + len(buffer)}; start the run again")
            buffer, offset = buffer[count:], offset + count


Pixels = Tensor | OnDisk
"""uint8 (N, 3, H, W)."""


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """The first row and the length of each run of consecutive rows."""
    first = 0
    for position in range(1, len(rows) + 1):
        if position == len(rows) or rows[position] != rows[position - 1] + 1:
            yield rows[first], position - first
            first = position


def taken(pixels: Pixels, indices: Tensor) -> Pixels:
    """The images at `indices` (K,), where `pixels` are."""
    return pixels.take(indices) if isinstance(pixels, OnDisk) else pixels[indices]


def blocks(pixels: Pixels, most_bytes: int = BLOCK_BYTES) -> Iterator[Tensor]:
    """The images in order, in tensors of at most so many bytes, or of one image."""
    size = rows_of(pixels.shape, most_bytes)
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]


def rows_of(shape: tuple[int, ...], most_bytes: int = BLOCK_BYTES) -> int:
    """How many images of shape[1:] are at most so many bytes; at least one."""
    return max(1, most_bytes // max(1, int(np.prod(shape[1:]))))

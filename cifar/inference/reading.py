"""Image files as batches: decoded in threads while the model computes, a bounded number of images at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar.cores import available_cores
from cifar.data.decode import decode
from cifar.data.images import DataError, on_one_line
from cifar.data.preprocessing import InputFormat
from cifar.data.storage import problem_of

MAX_THREADS = 8
OnUnreadable = Callable[[Path, str], None]
"""Called with each path that cannot be read, and the message that says why."""


@dataclass(frozen=True)
class Batch:
    """Images uint8 (B, 3, size, size), and the files that they are from."""

    paths: list[Path]
    images: Tensor


def read_image(path: Path, format: InputFormat) -> NDArray[np.uint8]:
    """The image in a file (size, size, 3), as in training. Raises DataError, also for a FIFO or a device."""
    problem = problem_of(path)
    if problem:
        raise DataError(f"{on_one_line(path)}: {problem}")
    return decode(path, format).pixels


def batches(
    paths: Sequence[Path], format: InputFormat, batch_size: int, on_unreadable: OnUnreadable
) -> Iterator[Batch]:
    """The images in files, in their order, those left out that cannot be read."""
    readable: list[Path] = []
    images: list[NDArray[np.uint8]] = []
    for path, image in _decoded(paths, format, 2 * batch_size, on_unreadable):
        readable.append(path)
        images.append(image)
        if len(images) == batch_size:
            yield Batch(readable, to_tensor(images))
            readable, images = [], []
    if images:
        yield Batch(readable, to_tensor(images))


def to_tensor(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Images (size, size, 3) as one tensor uint8 (B, 3, size, size)."""
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2))


def _decoded(
    paths: Iterable[Path], format: InputFormat, ahead: int, on_unreadable: OnUnreadable
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Each path with its image; `ahead` images are being decoded or wait for the model."""
    rest = iter(paths)
    waiting: deque[tuple[Path, Future[NDArray[np.uint8]]]] = deque()
    pool = ThreadPoolExecutor(min(available_cores(), MAX_THREADS))
    try:
        while True:
            for path in islice(rest, ahead - len(waiting)):
                waiting.append((path, pool.submit(read_image, path, format)))
            if not waiting:
                return
            path, future = waiting.popleft()
            try:
                image = future.result()
            except DataError as error:
                on_unreadable(path, str(error))
                continue
            yield path, image
    finally:
        pool.shutdown(cancel_futures=True)

"""Near duplicates among images: the same shot, resized, recompressed, recoloured, shifted, cropped or mirrored."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from cifar.data.pixels import Pixels

CUT = 0.2
"""Pairs of at most this distance are near duplicates."""


class Pair(NamedTuple):
    """Two images by their indices, and how much they differ: 0 for equal pixels, about 1 for unrelated images."""

    first: int
    second: int
    distance: float


def no_progress(done: int, total: int) -> None:
    """A no-op in place of a progress bar."""


def near_duplicates(
    images: Pixels,
    features: Tensor | None = None,
    most: int | None = None,
    cut: float = CUT,
    progress: Callable[[int, int], None] = no_progress,
) -> list[Pair]:
    """Pairs of near duplicates among `images` uint8 (N, 3, H, W), first < second, surest first; at most `most`.

    `features` float32 (N, F): of a pretrained backbone, from which candidates are taken; None: from the pixels.
    """
    raise NotImplementedError


def between(
    images: Pixels,
    others: Pixels,
    features: tuple[Tensor, Tensor] | None = None,
    cut: float = CUT,
    progress: Callable[[int, int], None] = no_progress,
) -> list[Pair]:
    """Of each of `images`, its best match in `others` (`second`) where that is a near duplicate, surest first.

    `features`: those of `images` and of `others`, or None.
    """
    raise NotImplementedError

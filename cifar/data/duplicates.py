"""Near duplicates among images: the same shot, resized, recompressed, recoloured, shifted, cropped or mirrored.

Candidates are the nearest images by the gradients of 8 x 8 grey pixels, each image shifted and mirrored in several
ways, and by features where there are any. Each is then aligned (cifar.data.alignment), and what differs is left.
Of CIFAR-10's test images with a known near duplicate, 98% have it among these candidates without features.

Of the 335 test images of CIFAR-10 with a match in training of at most CUT, all but about 10 are the same shot, by eye;
these show a horizon, or an aeroplane or a car that stands out from nothing. Images without contrast are like nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar.data import alignment
from cifar.data.alignment import grey, prepared, resized, smooth
from cifar.data.copies import copies
from cifar.data.pixels import Pixels, blocks
from cifar.options.splits import NEAR

CUT = 0.2
"""Pairs of at most this distance are near duplicates."""
NEIGHBOURS = 20
"""Candidates of an image from its pixels, and as many from its features."""
LEAST_GUESS = 0.6
"""Candidates whose correlation before the alignment is lower are left out. 99% of random pairs of photographs are."""
DESCRIPTOR = 8
"""Side of the grey pixels whose gradients find candidates."""
OFFSETS = (-0.1, 0.0, 0.1)
"""Shifts of an image in its search for candidates, horizontal and vertical, in half widths."""
PAIRS, ALIGNED = 512, 32
"""Pairs that are looked at at once, and those of them that are aligned at once: more leave the processor's cache."""
SCORES = 2**25
"""Similarities that are in memory at once."""


class Pair(NamedTuple):
    """Two images by their indices, and how much they differ: 0 for equal pixels, about 1 for unrelated images."""

    first: int
    second: int
    distance: float


def no_progress(done: int, total: int) -> None:
    """A no-op in place of a progress bar."""


Progress = Callable[[int, int], None]


def near_duplicates(
    images: Pixels,
    features: Tensor | None = None,
    most: int | None = None,
    cut: float = CUT,
    progress: Progress = no_progress,
) -> list[Pair]:
    """Pairs of near duplicates among `images` uint8 (N, 3, H, W), first < second, surest first; at most `most`.

    `features` float32 (N, F): of a pretrained backbone, from which more candidates are taken.
    """
    rows = _rows_of(images)
    both = None if features is None else (features, features)
    candidates = torch.cat(list(_candidates(rows, rows, both, itself=True)))
    candidates = candidates.sort(dim=1).values.unique(dim=0)
    pairs = _aligned(rows, rows, candidates, cut, progress)
    return pairs if most is None else pairs[:most]


def between(
    images: Pixels,
    others: Pixels,
    features: tuple[Tensor, Tensor] | None = None,
    cut: float = CUT,
    progress: Progress = no_progress,
) -> list[Pair]:
    """Of each of `images`, its best match in `others` (`second`) where that is a near duplicate, surest first.

    `features`: those of `images` and of `others`, or None.
    """
    rows, other_rows = _rows_of(images), _rows_of(others)
    candidates = torch.cat(list(_candidates(rows, other_rows, features))).unique(dim=0)
    best: dict[int, Pair] = {}
    for pair in _aligned(rows, other_rows, candidates, cut, progress):
        best.setdefault(pair.first, pair)
    return list(best.values())


def leaked(images: Pixels, train: Pixels, check: str) -> NDArray[np.bool_]:
    """(N,): whether each of `images` is in `train` too, pixel by pixel; with check=near, or nearly."""
    mask = copies(images, train)
    if check == NEAR:
        mask[[pair.first for pair in between(images, train)]] = True
    return mask


def _rows_of(images: Pixels) -> Tensor:
    """Images as they are compared, uint8 (N, 3, SIDE, SIDE)."""
    if not len(images):
        return torch.empty(0, 3, alignment.SIDE, alignment.SIDE, dtype=torch.uint8)
    return torch.cat([prepared(block).round().clamp(0, 255).byte() for block in blocks(images)])


def _candidates(
    images: Tensor, others: Tensor, features: tuple[Tensor, Tensor] | None, itself: bool = False
) -> Iterator[Tensor]:
    """Pairs of indices (P, 2) of images and of those among `others` that they may be copies of.

    `itself`: the two are the same, and no image is its candidate.
    """
    count = min(NEIGHBOURS, len(others) - itself)
    if count < 1 or not len(images):
        yield torch.empty(0, 2, dtype=torch.int64)
        return
    known = _descriptors(others)
    unit = None if features is None else (_unit(features[0]), _unit(features[1]))
    size = max(1, SCORES // len(others))
    for start in range(0, len(images), size):
        part = torch.arange(start, min(start + size, len(images)))
        scores = [_most_alike(images[part], known)]
        if unit is not None:
            scores += [unit[0][part] @ unit[1].T]
        for score in scores:
            if itself:
                score[torch.arange(len(part)), part] = -2
            nearest = score.topk(count, dim=1).indices
            yield torch.stack([part[:, None].expand_as(nearest), nearest], dim=2).flatten(0, 1)


def _most_alike(images: Tensor, known: Tensor) -> Tensor:
    """The similarities (K, N) of images uint8 (K, 3, H, W) with descriptors, each by its most alike version."""
    straight = grey(images.float())
    best = torch.full((len(images), len(known)), -2.0)
    for version in (straight, straight.flip(-1)):
        for across in OFFSETS:
            for down in OFFSETS:
                maps = torch.tensor([1, 1, across, down]).expand(len(images), 4)
                shifted = alignment.warped(version, maps)[0]
                torch.maximum(best, _descriptor(shifted) @ known.T, out=best)
    return best


def _descriptors(images: Tensor) -> Tensor:
    """Unit vectors float32 (N, 2 DESCRIPTOR²) of images uint8."""
    return torch.cat([_descriptor(grey(block.float())) for block in blocks(images)])


def _descriptor(images: Tensor) -> Tensor:
    """The gradients of grey images (N, 1, H, W), with a length of one."""
    return _unit(alignment.gradients(resized(images, DESCRIPTOR)).flatten(1))


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return unit


def _aligned(images: Tensor, others: Tensor, candidates: Tensor, cut: float, progress: Progress) -> list[Pair]:
    """The pairs of at most this distance among the candidates (P, 2), surest first."""
    pairs: list[Pair] = []
    done = 0
    batches = candidates.split(PAIRS) if len(candidates) else ()
    with _worker_threads() as pool:
        for chosen, distance in pool.map(partial(_distances, images, others), batches):
            near = distance <= cut
            first, second = chosen[near].T.tolist()
            pairs += map(Pair, first, second, distance[near].tolist())
            done = min(done + PAIRS, len(candidates))
            progress(done, len(candidates))
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


@contextmanager
def _worker_threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as PyTorch uses, each of which computes alone: what few pairs need is too little to be shared."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _distances(images: Tensor, others: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Of the pairs (P, 2) that are alike before the alignment: these (K, 2), and their distances (K,)."""
    one, other = images[pairs[:, 0]].float(), others[pairs[:, 1]].float()
    correlation, guess, mirrored = alignment.first_guess(one, other)
    alike = correlation >= LEAST_GUESS
    chosen = (values[alike].split(ALIGNED) for values in (one, other, guess, mirrored))
    return pairs[alike], torch.cat([_aligned_distances(*values) for values in zip(*chosen, strict=True)])


def _aligned_distances(one: Tensor, other: Tensor, guess: Tensor, mirrored: Tensor) -> Tensor:
    """The distances (K,) of pairs of float images (K, 3, H, W) once they are aligned, from a first guess."""
    one, other = smooth(one), smooth(torch.where(mirrored[:, None, None, None], other.flip(-1), other))
    maps = alignment.refined(one, other, guess)
    return alignment.distances(one, other, maps, mirrored)

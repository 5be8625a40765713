"""Images that are the same pixel by pixel, but for their brightness and contrast, however smooth they are.

Near duplicates (cifar.data.duplicates) are known by their edges; a sky or a blurred picture has none, and its copies
that were resized or recompressed are found here: at one size, their pixels are alike to a tenth of their contrast.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from cifar.data.duplicates import SCORES, Pair

CUT = 0.1
"""The most that differs, as a share of the standard deviation, after brightness and contrast are fitted."""
COARSE = 8
"""Side of the pixels by which candidates are chosen."""
NEIGHBOURS = 10
"""Candidates of an image."""


def same_pixels(images: Tensor) -> list[Pair]:
    """Pairs of uint8 images (N, 3, H, W), first < second; the distance is what differs, at most CUT."""
    pairs: list[Pair] = []
    if len(images) < 2:
        return pairs
    coarse = _unit(functional.adaptive_avg_pool2d(images.float(), COARSE))
    size = max(1, SCORES // len(images))
    for start in range(0, len(images), size):
        scores, others = (coarse[start : start + size] @ coarse.T).topk(min(NEIGHBOURS + 1, len(images)))
        rows, places = (scores**2 > 1 - CUT**2).nonzero(as_tuple=True)
        first, second = rows + start, others[rows, places]
        chosen = first < second
        pairs += _compared(images, first[chosen], second[chosen])
    return pairs


def _compared(images: Tensor, first: Tensor, second: Tensor) -> list[Pair]:
    pairs = []
    for one, other in zip(first.split(4096), second.split(4096), strict=True):
        correlation = (_unit(images[one].float()) * _unit(images[other].float())).sum(1)
        distance = (1 - correlation**2).clamp_min(0).sqrt()
        near = (distance <= CUT) & (correlation > 0)
        rows = zip(one[near].tolist(), other[near].tolist(), distance[near].tolist(), strict=True)
        pairs += [Pair(*row) for row in rows]
    return pairs


def _unit(images: Tensor) -> Tensor:
    """Float images (N, ...) less their mean, with a length of one: (N, D)."""
    rows = images.flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    units: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return units

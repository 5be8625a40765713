"""Which images are unlike those that a network was trained on (out-of-distribution), by the distance of features.

The distance is 1 minus the cosine similarity to the 10th nearest of at most 1,000 training images (Sun et al.,
Out-of-Distribution Detection with Deep Nearest Neighbors, 2022, arXiv:2204.06507), in the 128 directions in which their
features are largest. On features of EfficientNet-Lite0, at a false-alarm rate of 5%, it flags 95% of Fashion-MNIST and
all of scikit-learn's digits where CIFAR-10 was trained on; the Mahalanobis distance (Lee et al., 2018) to the nearest
class flags 67% and 1%, and 94% and 100% with features of length 1, in 6.6 MB of weights in place of 1.2.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES, DIRECTIONS, NEIGHBOURS = 1000, 128, 10


class Neighbours(nn.Module):
    """features (B, F) -> distances (B,), in [0, 2].

    `directions` (F, D), orthonormal; `rows` (N, D): the training images' features, of length 1, in these directions.
    """

    directions: Tensor
    rows: Tensor

    def __init__(self, directions: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions, persistent=False)
        self.register_buffer("rows", rows, persistent=False)
        self.neighbours = min(NEIGHBOURS, len(rows))

    @classmethod
    def of(cls, features: Tensor) -> Neighbours:
        """Of the features (N, F) of training images."""
        unit = F.normalize(features.detach().cpu().double(), dim=1)
        directions = _largest(unit)
        halves = directions.half(), (unit @ directions).half()  # as files keep both: the distances stay the same
        return cls(*(half.float() for half in halves))

    def forward(self, features: Tensor) -> Tensor:
        rows = features.float()
        unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)  # F.normalize is exported with needless shapes
        similarities = unit @ self.directions @ self.rows.T
        nearest: Tensor = similarities.topk(self.neighbours, dim=1).values[:, -1]
        return 1 - nearest


def _largest(unit: Tensor) -> Tensor:
    """The DIRECTIONS orthonormal directions (F, D) that hold most of the rows (N, F); all where there are fewer."""
    rows, width = unit.shape
    if width <= DIRECTIONS:
        return torch.eye(width, dtype=unit.dtype)
    if rows >= width:
        directions: Tensor = torch.linalg.eigh(unit.T @ unit).eigenvectors[:, -DIRECTIONS:]
        return directions
    values, vectors = torch.linalg.eigh(unit @ unit.T)
    is_large = values > 1e-9 * values[-1]
    kept = is_large.nonzero().flatten()[-DIRECTIONS:]
    directions = unit.T @ vectors[:, kept] / values[kept].sqrt()
    return directions


def head_of(model: nn.Module, classes: int) -> nn.Module | None:
    """The last linear layer with an output for each class; None where the model has none."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == classes]
    return layers[-1] if layers else None


def with_features(network: nn.Module, head: nn.Module | None, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (B, classes) that a network gives, and the features (B, F) that its part `head` receives.

    The logits are the features where there is no head, or where it is not called once for each image: a network may use
    it in training alone.
    """
    if head is None:
        logits: Tensor = network(inputs)
        return logits, logits.flatten(1)
    received: list[Tensor] = []

    def keep(head: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        received.append([*arguments, *keywords.values()][0])

    handle = head.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        logits = network(inputs)
    finally:
        handle.remove()
    is_for_each = bool(received) and received[-1].shape[0] == logits.shape[0]  # len() would fix the size in exports
    return logits, (received[-1] if is_for_each else logits).flatten(1)

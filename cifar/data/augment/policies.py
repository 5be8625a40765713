"""Policies: which operations an image goes through, and how strongly. Each is a Piece that works on pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cifar.data.augment.operations import BINS, OPERATIONS


@dataclass(frozen=True)
class RandomOperations:
    """`rounds` operations one after the other, each drawn from all, with an amount of `levels`, (operations, BINS).

    `level` is the bin of the amount; None: drawn too.
    """

    levels: Tensor
    rounds: int
    level: int | None

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """For each image and round: the operation, and its amount; float64 (N, rounds, 2)."""
        shape = (count, self.rounds)
        operations = torch.randint(len(self.levels), shape, generator=generator)
        levels = torch.full(shape, self.level or 0)
        if self.level is None:
            levels = torch.randint(BINS, shape, generator=generator)
        signed = torch.tensor([operation.signed for operation in OPERATIONS])[operations]
        negative = torch.rand(shape, generator=generator) <= 0.5
        amounts = self.levels[operations, levels]
        return torch.stack([operations.double(), torch.where(signed & negative, -amounts, amounts)], 2)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """images uint8 (B, 3, H, W), in place; `draws` (B, rounds, 2) on the CPU, so that no device is waited for."""
        for drawn in draws.unbind(1):
            numbers, amounts = drawn[:, 0].long(), drawn[:, 1]
            counts = torch.bincount(numbers, minlength=len(OPERATIONS)).tolist()
            order = numbers.argsort(stable=True)
            rows = torch.split(order.to(images.device, non_blocking=True), counts)
            strengths = torch.split(amounts[order].to(images.device, non_blocking=True), counts)
            for operation, chosen, strength in zip(OPERATIONS, rows, strengths, strict=True):
                if len(chosen):
                    images[chosen] = operation.apply(images[chosen], strength)
        return images


def trivial(height: int, width: int) -> RandomOperations:
    """TrivialAugment, wide: one operation, of any strength."""
    levels = torch.stack([operation.wide(height, width) for operation in OPERATIONS])
    return RandomOperations(levels.double(), rounds=1, level=None)


def randaugment(height: int, width: int, num_ops: int, magnitude: int) -> RandomOperations:
    """RandAugment: `num_ops` operations of one strength."""
    levels = torch.stack([operation.rand(height, width) for operation in OPERATIONS])
    return RandomOperations(levels.double(), rounds=num_ops, level=magnitude)

"""Networks for tests, in a module that has to be trusted: `model=own model.factory=networks:NAME`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DROPOUT = ["model=own", "model.factory=networks:small_with_dropout"]
WAITING = ["model=own", "model.factory=networks:waits_for_the_device"]


def small_with_dropout(num_classes: int) -> nn.Module:
    """With batch norm and dropout, so that buffers and the global random generator matter."""
    pooled = [nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, num_classes)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *pooled)


class Waiting(nn.Module):
    """Its forward pass reads a number from the device, which cannot be captured as a CUDA graph."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(3 * 32 * 32, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits * (float(x.abs().max() > 0) if x.is_cuda else 1.0)


def waits_for_the_device(num_classes: int) -> nn.Module:
    return Waiting(num_classes)


def without_onnx(logits: Tensor) -> Tensor:
    """The logits, by an operator that ONNX lacks."""
    return logits + 0 * torch.special.i1(logits)

"""Depthwise convolutions in fp32 while a network trains in bf16 on a CPU, whose kernels for them in bf16 are slow.

oneDNN computes the gradients of some of them (stride 2, 5x5) by its reference code: ten times as long as in fp32.
`python -m benchmarks depthwise` measures what this is worth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_fp32(model: nn.Module) -> None:
    """Have the depthwise convolutions of a model computed in fp32 wherever gradients are, autocast or not."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    depthwise = [module for module in convolutions if module.groups == module.in_channels > 1]
    classes = {kind: _computed_in_fp32(kind) for kind in set(map(type, depthwise))}
    for module in depthwise:
        module.__class__ = classes[type(module)]


def _computed_in_fp32(convolution: type[nn.Conv2d]) -> type[nn.Conv2d]:
    def forward(self: nn.Conv2d, images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return convolution.forward(self, images)
        with torch.autocast(images.device.type, enabled=False):
            return convolution.forward(self, images.float())

    return type(convolution.__name__, (convolution,), {"forward": forward})

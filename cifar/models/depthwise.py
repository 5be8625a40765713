"""Depthwise convolutions in fp32 while a network trains in bf16: a CPU computes their gradients slowly in bf16.

`python -m benchmarks depthwise` measures what this is worth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def compute_in_fp32(model: nn.Module) -> None:
    """Have the depthwise convolutions of a model computed in fp32 wherever they need a gradient, autocast or not."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    depthwise = [module for module in convolutions if module.groups == module.in_channels > 1]
    classes = {kind: _in_fp32(kind) for kind in set(map(type, depthwise))}
    for module in depthwise:
        module.__class__ = classes[type(module)]


def _in_fp32(convolution: type[nn.Conv2d]) -> type[nn.Conv2d]:
    def forward(self: nn.Conv2d, images: Tensor, *arguments: Any, **named: Any) -> Any:
        if not (torch.is_grad_enabled() and (images.requires_grad or self.weight.requires_grad)):
            return convolution.forward(self, images, *arguments, **named)
        with torch.autocast(images.device.type, enabled=False):
            return convolution.forward(self, images.to(self.weight.dtype), *arguments, **named)

    return type(convolution.__name__, (convolution,), {"forward": forward})

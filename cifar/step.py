"""One training step: forward, loss and backward. The optimizer runs outside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar.optim import l2_term

Autocast = Callable[[], AbstractContextManager[object]]
"""Makes the context that the forward pass runs in."""


def autocast(device: torch.device, dtype: torch.dtype) -> Autocast:
    """Mixed precision in `dtype`; for float32 the context does nothing."""
    return partial(torch.autocast, device.type, dtype=dtype, enabled=dtype != torch.float32)


class EagerStep:
    """step(images, labels) leaves the gradients of the mean cross-entropy plus the L2 term in the parameters.

    Returns the cross-entropy (without the L2 term) and the number of right predictions, scalars on the device.
    """

    def __init__(self, model: nn.Module, decayed: list[nn.Parameter], l2: float, autocast: Autocast) -> None:
        self.model, self.decayed, self.l2, self.autocast = model, decayed, l2, autocast

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.model.zero_grad(set_to_none=True)
        with self.autocast():
            logits = self.model(images)
        cross_entropy = F.cross_entropy(logits.float(), labels)
        (cross_entropy + l2_term(self.decayed, self.l2)).backward()
        return cross_entropy.detach(), (logits.detach().argmax(1) == labels).sum()

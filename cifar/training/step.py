"""One training step (forward, loss and backward) and the scoring of one batch: eager, or replayed from a CUDA graph.

The optimizer runs outside, so its learning rate, momentum and weight decay stay plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar.training.optim import l2_term

Autocast = Callable[[], AbstractContextManager[object]]
"""Makes the context that the forward pass runs in."""
Compute = Callable[[], tuple[Tensor, Tensor]]


def autocast(device: torch.device, dtype: torch.dtype) -> Autocast:
    """Mixed precision in `dtype`; for float32 the context does nothing.

    Without the cache of cast weights: what a graph casts must be cast anew in every replay.
    """
    enabled = dtype != torch.float32
    return partial(torch.autocast, device.type, dtype=dtype, enabled=enabled, cache_enabled=False)


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


class EagerScore:
    """score(images, labels) gives the sum of the cross-entropy of a batch and its confusion counts, int64 (K * K,).

    `model` must be in eval mode, and inference mode on.
    """

    def __init__(self, model: nn.Module, autocast: Autocast) -> None:
        self.model, self.autocast = model, autocast

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            logits = self.model(images).float()
        classes = logits.shape[1]
        confusion = torch.zeros(classes**2, dtype=torch.int64, device=labels.device)
        confusion.index_add_(0, labels * classes + logits.argmax(1), torch.ones_like(labels))
        return F.cross_entropy(logits, labels, reduction="sum"), confusion


def again(compute: Compute, model: nn.Module) -> Compute:
    """Computes anew for every batch: static buffers without a graph, on any device."""
    return compute


class Static:
    """`eager`, an EagerStep or an EagerScore, by way of static buffers: batches are copied to where the first one lay.

    `record` turns the computation on the buffers into what is called for every batch. What that returns may be buffers
    too: use it before the next call. A batch of another shape (the last of an epoch) is computed as it comes.
    """

    def __init__(self, eager: EagerStep | EagerScore, record: Callable[[Compute, nn.Module], Compute] = again) -> None:
        self.eager, self.record, self.model = eager, record, eager.model
        self.inputs: list[Tensor] = []

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not self.inputs:
            self._begin(images, labels)
        if images.shape != self.inputs[0].shape:
            return self._uncommon(images, labels)
        for buffer, tensor in zip(self.inputs, (images, labels), strict=True):
            buffer.copy_(tensor)
        return self.compute()

    def _begin(self, *batch: Tensor) -> None:
        self.inputs = [tensor.clone() for tensor in batch]
        self.compute = self.record(partial(self.eager, *self.inputs), self.model)

    def _uncommon(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.eager(images, labels)


class StaticStep(Static):
    """A Static EagerStep; where a graph holds the gradients, they stay where it writes them."""

    def _begin(self, *batch: Tensor) -> None:
        super()._begin(*batch)
        self.gradients = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]

    def _uncommon(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = super()._uncommon(images, labels)
        for parameter, gradient in self.gradients:
            assert parameter.grad is not None
            parameter.grad = gradient.copy_(parameter.grad)
        return outputs

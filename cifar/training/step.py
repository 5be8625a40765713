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

from cifar.training.loss import CrossEntropy
from cifar.training.optim import l2_term

Autocast = Callable[[], AbstractContextManager[object]]
"""Returns a new context for one forward pass."""
Compute = Callable[[], tuple[Tensor, ...]]
"""A computation on fixed input buffers: returns what a step or a score of the batch in them returns."""
Capture = Callable[[Compute, nn.Module], Compute]
"""Turns a computation of a model into the one that is called for every batch, such as the replay of a CUDA graph."""


def autocast(device: torch.device, dtype: torch.dtype) -> Autocast:
    """Mixed precision in `dtype`; for float32 the context is a no-op.

    The cache of cast weights is off: a CUDA graph must cast the weights again in every replay.
    """
    enabled = dtype != torch.float32
    return partial(torch.autocast, device.type, dtype=dtype, enabled=enabled, cache_enabled=False)


class EagerStep:
    """step(images, labels) puts the gradients of the mean of `loss` plus the L2 term into `parameter.grad`.

    Labels are classes (B,), or shares of these (B, classes). Returns the plain cross-entropy (without smoothing,
    weights and the L2 term) and the number of correct predictions, scalars on the device.
    """

    def __init__(
        self,
        model: nn.Module,
        decayed: list[nn.Parameter],
        l2: float,
        autocast: Autocast,
        loss: CrossEntropy | None = None,
    ) -> None:
        self.model = model
        self.decayed = decayed
        self.l2 = l2
        self.autocast = autocast
        self.loss = loss or CrossEntropy()
        self.plain = CrossEntropy()

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.model.zero_grad(set_to_none=True)
        with self.autocast():
            logits = self.model(images).float()
        minimised = self.loss(logits, labels)
        loss = minimised + l2_term(self.decayed, self.l2)
        loss.backward()
        logits = logits.detach()
        is_plain = type(self.loss) is CrossEntropy
        cross_entropy = minimised.detach() if is_plain else self.plain(logits, labels)
        correct = (logits.argmax(1) == most_likely(labels)).sum()
        return cross_entropy, correct


def most_likely(labels: Tensor) -> Tensor:
    """int64 (B,) of labels; of those of mixed images, float32 (B, classes), the class with the largest share."""
    return labels.argmax(1) if labels.is_floating_point() else labels


class EagerScore:
    """score(images, labels) returns the sum of a batch's cross-entropy, its confusion counts, int64 (K * K,), and its
    logits, float32 (B, K).

    `model` must be in eval mode, and inference mode on.
    """

    def __init__(self, model: nn.Module, autocast: Autocast) -> None:
        self.model = model
        self.autocast = autocast

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with self.autocast():
            logits = self.model(images).float()
        classes = logits.shape[1]
        confusion = torch.zeros(classes**2, dtype=torch.int64, device=labels.device)
        confusion.index_add_(0, labels * classes + logits.argmax(1), torch.ones_like(labels))
        return F.cross_entropy(logits, labels, reduction="sum"), confusion, logits


def no_capture(compute: Compute, model: nn.Module) -> Compute:
    """A Capture that captures nothing: static buffers without a graph, on any device."""
    return compute


class Static:
    """An EagerStep or EagerScore, `eager`, that reads every batch from the same buffers, as a CUDA graph needs it.

    The first batch allocates the buffers; later ones are copied into them. `capture` turns the computation on the
    buffers into what is called for every batch. What that returns may be buffers too: use it before the next call. A
    batch of another shape (the last of an epoch) is computed eagerly.
    """

    def __init__(self, eager: EagerStep | EagerScore, capture: Capture = no_capture) -> None:
        self.eager = eager
        self.capture = capture
        self.model = eager.model
        self.inputs: list[Tensor] = []
        self.is_replayed = False

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        if not self.inputs:
            self._allocate(images, labels)
        if images.shape != self.inputs[0].shape:
            return self._compute_eagerly(images, labels)
        for buffer, tensor in zip(self.inputs, (images, labels), strict=True):
            buffer.copy_(tensor)
        return self.compute()

    def _allocate(self, images: Tensor, labels: Tensor) -> None:
        self.inputs = [images.clone(), labels.clone()]
        compute = partial(self.eager, *self.inputs)
        self.compute = self.capture(compute, self.model)
        self.is_replayed = self.compute is not compute

    def _compute_eagerly(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return self.eager(images, labels)


class StaticStep(Static):
    """A Static EagerStep; the gradients stay in the memory where a captured graph writes them."""

    def _allocate(self, images: Tensor, labels: Tensor) -> None:
        super()._allocate(images, labels)
        self.gradients = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]

    def _compute_eagerly(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        outputs = super()._compute_eagerly(images, labels)
        for parameter, gradient in self.gradients:
            assert parameter.grad is not None
            parameter.grad = gradient.copy_(parameter.grad)
        return outputs

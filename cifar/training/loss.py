"""The loss that a step minimises: cross-entropy, with label smoothing and weights of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cifar.options.option import ConfigError

BALANCED = "balanced"


class CrossEntropy:
    """loss(logits float32 (B, K), targets): the mean over a batch, a scalar.

    `targets` are labels int64 (B,), or shares of the classes float32 (B, K). PyTorch's cross-entropy.
    """

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets)


class SmoothedCrossEntropy(CrossEntropy):
    """A share `smoothing` of each target is spread evenly over all classes (Szegedy et al. 2016)."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.smoothing)


class WeightedCrossEntropy(SmoothedCrossEntropy):
    """As SmoothedCrossEntropy, but an image counts as much as its class weighs; `weights` are float32 (K,).

    The weight is that of the class before smoothing, and the batch is divided by its number of images. So the loss of a
    mixed target is the mixture of the losses of its classes, and with weights whose mean over the training images is 1,
    neither smoothing nor mixing changes the scale of the gradient. PyTorch's `weight` divides labels by their weights,
    and shares of classes by the number of images; and it weighs the smoothed share by the mean of the weights, which is
    above 2 where the classes are as 100:10:1.
    """

    def __init__(self, smoothing: float, weights: Tensor) -> None:
        super().__init__(smoothing)
        self.weights = weights

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        surprise = -F.log_softmax(logits, 1)
        smoothed = (1 - self.smoothing) * surprise + self.smoothing * surprise.mean(1, keepdim=True)
        weighted = self.weights * smoothed
        if targets.dim() == 1:
            return weighted.gather(1, targets[:, None]).mean()
        return (targets * weighted).sum(1).mean()


def build_loss(smoothing: float, weights: Tensor | None) -> CrossEntropy:
    """The loss of these settings; `weights` are those of the classes, (K,)."""
    if weights is not None:
        return WeightedCrossEntropy(smoothing, weights)
    return SmoothedCrossEntropy(smoothing) if smoothing else CrossEntropy()


def class_weights(setting: str | Sequence[float] | None, labels: Tensor, classes: Sequence[str]) -> Tensor | None:
    """The weights that loss.class_weights means, float32 (K,) on the device of `labels`, the training images'.

    Their mean over the training images is 1. "balanced": proportional to 1 / images of the class. Raises ConfigError
    for a list that is not one weight for each class.
    """
    if setting is None:
        return None
    counts = torch.bincount(labels.cpu(), minlength=len(classes)).double()
    if isinstance(setting, str):
        weights = 1 / counts.clamp(min=1)
    else:
        _check_length(setting, classes)
        weights = torch.tensor(setting, dtype=torch.float64)
    mean = (weights * counts).sum() / counts.sum()
    return (weights / mean).float().to(labels.device)


def _check_length(setting: Sequence[float], classes: Sequence[str]) -> None:
    if len(setting) != len(classes):
        names = ", ".join(classes[:20]) + (", ..." if classes[20:] else "")
        raise ConfigError(
            f"loss.class_weights={list(setting)}: {len(setting)} weights for {len(classes)} classes; allowed: a number"
            f" for each class, in this order: {names}; or balanced"
        )

"""What an exported model computes, compared with the model that it was exported from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import torch
from torch import Tensor

from cifar.data.pixels import Pixels
from cifar.exporting.formats import Compute
from cifar.exporting.source import CheckImages, ExportError, Source, check_images
from cifar.formatting import first_line

TOLERANCE = 1e-3
"""The largest difference of a probability that is allowed.

Exports of 14 models differed by 2e-8 to 5e-4 from PyTorch in fp32, with the same classes: the most of a frozen
ResNet-50 whose logits are large. There PyTorch itself differs by 1e-4 between two memory layouts
(benchmarks/results/exports.json).
"""
FIRST_BATCHES = (1, 2, 7)
"""Batch sizes that are tried first, so that one that is fixed is noticed."""
BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """On how many images an export was checked, what they are, and the largest difference of a probability.

    `accuracy`: that of the export on validation images; None of others. `reason`: why there were none.
    """

    images: int
    name: str
    largest: float
    accuracy: float | None
    reason: str

    @property
    def line(self) -> str:
        """For the terminal: with the reason, which may name places on this machine."""
        return f"{self.text}; {self.reason}" if self.reason else self.text

    @property
    def text(self) -> str:
        difference = f"differ by {self.largest:.1e} at most" if self.largest else "are equal"
        where = f"on {self.images:,} {self.name}"
        return f"same classes as PyTorch {where}; probabilities {difference} (allowed: {TOLERANCE:g})"


class Reference:
    """What PyTorch computes, in fp32 on the CPU, for the images that exports of one model are checked on."""

    def __init__(self, source: Source, checked: CheckImages | None = None) -> None:
        self.model = source.model
        self.checked = checked or check_images(source)
        self.batches = list(batches(self.checked.images))
        self.expected = [source.model.probabilities(batch) for batch in self.batches]

    def agreement(self, what: str, compute: Compute) -> Agreement:
        """Compare. Raises ExportError where a class or a probability differs, or a batch size is not accepted."""
        largest, different, predicted = 0.0, 0, []
        for batch, expected in zip(self.batches, self.expected, strict=True):
            probabilities = _computed(what, compute, batch)
            largest = max(largest, _largest_difference(probabilities, expected))
            different += _different_classes(probabilities, expected)
            predicted.append(probabilities.argmax(1))
        count = len(self.checked.images)
        if different or not largest <= TOLERANCE:
            raise ExportError(
                f"{what}: differs from PyTorch on {count:,} {self.checked.name}: {different} images have another class,"
                f" probabilities differ by {largest:.1e} at most; allowed: no other class, {TOLERANCE:g}; nothing was"
                " written"
            )
        labels = self.checked.labels
        accuracy = None if labels is None else float((torch.cat(predicted) == labels).double().mean())
        return Agreement(count, self.checked.name, largest, accuracy, self.checked.reason)

    def check_distances(self, what: str, compute: Compute | None) -> None:
        """Compare distances to training images, where they are known. Raises ExportError where one differs."""
        if compute is None:
            return
        for batch in self.batches[: len(FIRST_BATCHES) + 1]:
            expected, computed = self.model.assess(batch).distances, _computed(what, compute, batch)
            largest = _largest_difference(computed, expected)
            if not largest <= TOLERANCE:
                raise ExportError(
                    f"{what}: its distances to training images differ from PyTorch by {largest:.1e}; allowed:"
                    f" {TOLERANCE:g}; nothing was written"
                )


def batches(images: Pixels) -> Iterator[Tensor]:
    """First of FIRST_BATCHES images, then of BATCH."""
    start = 0
    for size in chain(FIRST_BATCHES, repeat(BATCH)):
        if start >= len(images):
            return
        yield images[start : start + size]
        start += size


def _computed(what: str, compute: Compute, batch: Tensor) -> Tensor:
    try:
        return compute(batch)
    except Exception as error:  # the errors of runtimes share no base
        problem = f"{what}: fails on a batch of {len(batch)}: {first_line(error)}"
        raise ExportError(f"{problem}; nothing was written") from error


def _largest_difference(computed: Tensor, expected: Tensor) -> float:
    """Infinite where only one of both is not a number; two that are not are equal."""
    if computed.shape != expected.shape or not torch.equal(computed.isnan(), expected.isnan()):
        return float("inf")
    differences = (computed - expected).abs().masked_fill(expected.isnan(), 0.0)
    return float(differences.nan_to_num(float("inf")).max())


def _different_classes(probabilities: Tensor, expected: Tensor) -> int:
    """Images of another class. Where the classes are as probable as each other, within the tolerance, none differs."""
    if probabilities.shape != expected.shape:
        return len(expected)
    predicted = expected.gather(1, probabilities.argmax(1, keepdim=True)).squeeze(1)
    return int((expected.max(1).values - predicted > 2 * TOLERANCE).sum())

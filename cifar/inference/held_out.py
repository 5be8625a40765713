"""Thresholds that are set anew: for another use of a model than its run measured, as with test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cifar.data.split import Splits
from cifar.inference.model import Assessment
from cifar.unsure import Reliability

BATCH = 64


def set_anew(splits: Splits, assess: Callable[[Tensor], Assessment]) -> Reliability:
    """By what `assess` gives for the calibration images of a run, else for its validation images.

    `assess`: images uint8 (B, 3, size, size) -> Assessment.
    """
    part, images = splits.held_out()
    batches = [assess(images.images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    probabilities = torch.cat([batch.probabilities for batch in batches]).numpy()
    distances = torch.cat([batch.distances for batch in batches])
    known = None if distances.isnan().any() else distances.numpy()
    return Reliability.of(part, probabilities, images.labels.numpy(), known)

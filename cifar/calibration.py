"""Calibration: one temperature, which divides the logits so that probabilities are shares of right predictions.

A class that is predicted with probability 0.8 should be right for 80 of 100 images; trained networks are often more
confident than that. (Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.) Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
BINS = 15
"""Of equal width, as in the paper."""
LOWEST, HIGHEST = 0.05, 20.0
"""Between what a temperature lies; logits without information would have an infinite one."""
STEPS, PRECISION = 60, 1e-5
"""Of the search for the temperature: steps at most, and the relative change that ends it."""
MOST = 2**21
"""Logits that a temperature is fitted on, at most: of more, every second, third or so image is taken."""
FARTHEST = 1e4
"""Logits so far below the largest one of an image, or farther, are of classes with probability 0."""


@dataclass(frozen=True)
class Calibration:
    """`temperature` is fitted on `images` validation images.

    ece_before and ece_after: the expected calibration error without and with a temperature. The latter is measured on
    other images than the temperature was fitted on: one fitted on each half of the images is applied to the other half.
    """

    temperature: float
    images: int
    ece_before: float
    ece_after: float
    bins: int = BINS


def calibrate(logits: Floats, labels: Labels) -> Calibration:
    """The temperature for logits (N, classes), and what it brings."""
    columns = _shifted(logits)
    temperature = _fitted(columns, labels, 1.0)
    temperatures = np.empty(len(labels))
    for half in (0, 1):
        temperatures[half::2] = _fitted(columns[:, 1 - half :: 2], labels[1 - half :: 2], temperature)
    right = columns.argmax(0) == labels
    before = expected_calibration_error(1 / np.exp(columns).sum(0), right)
    after = expected_calibration_error(1 / np.exp(columns / temperatures).sum(0), right)
    return Calibration(temperature, len(labels), before, after)


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature in [LOWEST, HIGHEST] that minimises the cross-entropy of logits (N, classes); 1 without images.

    So that a few images that are all right do not make it 0, one more image is added in effect: with the mean of the
    logits, and of any class with the same probability (as Platt, 1999, does for two classes).
    """
    return _fitted(_shifted(logits), labels, 1.0)


def _fitted(columns: Floats, labels: Labels, start: float) -> float:
    """Newton's method for 1 / temperature, in which the cross-entropy is convex; bisection where it leaves the bracket.

    `columns` as _shifted returns them; the search starts at the temperature `start`.
    """
    stride = -(-columns.size // MOST)
    if not stride:
        return 1.0
    columns, labels = np.ascontiguousarray(columns[:, ::stride]), labels[::stride]
    any_class = 1 / (len(labels) + 1)  # the share of the image that is added
    of_labels = float(columns[labels, np.arange(len(labels))].mean())
    target = (1 - any_class) * of_labels + any_class * float(columns.mean())
    low, high, inverse = 1 / HIGHEST, 1 / LOWEST, 1 / start
    for _ in range(STEPS):
        shares = np.exp(columns * inverse)
        sums = shares.sum(0)
        shares *= columns
        means = shares.sum(0) / sums
        shares *= columns
        slope = float(means.mean()) - target
        curvature = float((shares.sum(0) / sums - means**2).mean())
        if slope == 0 or curvature <= 0:  # logits that are all the same
            break
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature
        following = step if low <= step <= high else (low * high) ** 0.5
        change, inverse = abs(following - inverse), following
        if change < PRECISION * inverse:
            break
    return 1 / inverse


def _shifted(logits: Floats) -> Floats:
    """float64 (classes, N), the largest of each image 0: what probabilities depend on, in the quickest order."""
    columns: Floats = np.asarray(logits, np.float64).T.copy()
    columns -= columns.max(0)
    columns.clip(-FARTHEST, out=columns)
    return columns


def expected_calibration_error(confidences: Floats, right: NDArray[np.bool_], bins: int = BINS) -> float:
    """By how much the probabilities of predicted classes (N,) differ from the share that is right; NaN without images.

    The mean over bins of equal width of the absolute difference, weighted by images (Guo et al., 2017, equation 3). It
    is too high where a bin has few images.
    """
    number = np.minimum((confidences * bins).astype(np.int64), bins - 1)
    sums = np.bincount(number, confidences - right, bins)
    return float(np.abs(sums).sum() / len(right)) if len(right) else float("nan")

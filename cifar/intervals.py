"""Intervals: of draws, of a mean, of a share, of the difference of two shares of the same images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
LEVEL = 0.95
Limits = tuple[float, float]
SHARE: Limits = (0.0, 1.0)
"""Between what an accuracy, a balanced accuracy and a macro F1 lie."""
NO_LIMITS: Limits = (-np.inf, np.inf)


def interval(draws: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """The equal-tailed interval of draws along the last axis."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return low, high


def clipped(low: float, high: float, limits: Limits) -> tuple[float, float]:
    """The ends of an interval of what lies within `limits`; NaN stays."""
    low, high = np.clip((low, high), *limits)
    return float(low), float(high)


def mean_interval(values: Any, limits: Limits = NO_LIMITS) -> tuple[float, float, float]:
    """The mean and Student's t interval of it (Student 1908); ends are NaN where there are fewer than two values.

    No end lies beyond `limits`, between which all values lie.
    """
    values = np.asarray(values, float)
    mean = float(values.mean())
    error = stats.sem(values) if len(values) > 1 else np.nan
    if error == 0:
        return mean, mean, mean
    if not error > 0:
        return mean, np.nan, np.nan
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return mean, *clipped(low, high, limits)


def wilson(share: float, images: int) -> tuple[float, float]:
    """The interval of an accuracy on `images` images (Wilson 1927), as if they were drawn from all possible images."""
    ends = stats.binomtest(round(share * images), images).proportion_ci(LEVEL, method="wilson")
    return float(ends.low), float(ends.high)


def paired_difference(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[float, float, float]:
    """By how much the share that is right rises from `before` to `after`, with the ends of its interval.

    Both are (N,), of the same N >= 1 images. Newcombe's tenth method: Wilson's intervals of the two shares, combined
    with the correlation of the pairs (Newcombe, Improved confidence intervals for the difference between binomial
    proportions based on paired data, 1998).
    """
    shares = float(before.mean()), float(after.mean())
    low_before, high_before = wilson(shares[0], len(before))
    low_after, high_after = wilson(shares[1], len(before))
    difference = shares[1] - shares[0]
    correlation = _paired_correlation(before, after)
    below = _combined(shares[1] - low_after, high_before - shares[0], correlation)
    above = _combined(high_after - shares[1], shares[0] - low_before, correlation)
    return difference, *clipped(difference - below, difference + above, (-1.0, 1.0))


def _combined(first: float, second: float, correlation: float) -> float:
    squared = first**2 - 2 * correlation * first * second + second**2
    return float(np.sqrt(max(squared, 0.0)))


def _paired_correlation(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """The phi coefficient with a correction for continuity; 0 where all images are alike before, or after."""
    right_before, right_after, images = int(before.sum()), int(after.sum()), len(before)
    margins = right_before * (images - right_before) * right_after * (images - right_after)
    both, neither = int((before & after).sum()), int((~before & ~after).sum())
    if not margins:
        return 0.0
    product = both * neither - (right_before - both) * (right_after - both)
    corrected = max(product - images / 2, 0) if product > 0 else product
    return float(corrected / margins**0.5)

"""Intervals: of draws, of a mean, of a share."""

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

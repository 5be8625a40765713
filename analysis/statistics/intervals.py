"""Intervals: of draws, of a mean, of a share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from ..surrogate import Array

LEVEL = 0.95


def interval(draws: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """The equal-tailed interval of draws along the last axis."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return low, high


def mean_interval(values: Any) -> tuple[float, float, float]:
    """The mean and Student's t interval of it (Student 1908); ends are NaN where there are fewer than two values."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    error = stats.sem(values) if len(values) > 1 else np.nan
    if error == 0:
        return mean, mean, mean
    if not error > 0:
        return mean, np.nan, np.nan
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def wilson(share: float, images: int) -> tuple[float, float]:
    """The interval of an accuracy on `images` images (Wilson 1927), as if they were drawn from all possible images."""
    ends = stats.binomtest(round(share * images), images).proportion_ci(LEVEL, method="wilson")
    return float(ends.low), float(ends.high)

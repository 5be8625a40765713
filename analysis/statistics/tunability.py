"""What tuning one hyperparameter alone is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cifar.intervals import interval

from ..scaling import scaled, unscaled
from ..surrogate import Array, Surrogate
from .places import along, numbers


def tunability(space: pd.DataFrame, surrogate: Surrogate, default: Mapping[str, float] | None = None) -> pd.DataFrame:
    """hyperparameter, value, gain, low, high: what it alone, set to its best value, gains over the default.

    The value is the estimated best, the interval is that of its gain (Probst et al. 2019). `default` holds values by
    hyperparameter; those that it lacks stand in the middle of their range, as the search was laid out.
    """
    start = _start(space, surrogate, default or {})
    rows = [_gain(row, surrogate, start) for row in numbers(space).itertuples()]
    gains = pd.DataFrame(rows, columns=["hyperparameter", "value", "gain", "low", "high"])
    return gains.sort_values("gain", ascending=False, ignore_index=True)


def _start(space: pd.DataFrame, surrogate: Surrogate, default: Mapping[str, float]) -> Array:
    """(d,) the place of the default."""
    start = np.full(len(surrogate.columns), 0.5)
    for row in numbers(space).itertuples():
        if row.hyperparameter in default:
            start[surrogate.columns.index(row.hyperparameter)] = scaled(default[row.hyperparameter], row)
    return start


def _gain(row: Any, surrogate: Surrogate, start: Array) -> dict[str, Any]:
    """The row of one hyperparameter."""
    column = surrogate.columns.index(row.hyperparameter)
    grid = np.r_[start[column], np.linspace(0, 1, 21)]
    draws = surrogate.draw(along(start[None], column, grid))
    best = draws.mean(1).argmax()
    gain = draws[best] - draws[0]
    low, high = interval(gain)
    value = float(unscaled(grid[best], row))
    return {"hyperparameter": row.hyperparameter, "value": value, "gain": gain.mean(), "low": low, "high": high}

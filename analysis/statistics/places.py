"""Places in the space of a search, in [0, 1], at which the surrogate is asked: shared by several statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..scaling import columns, scaled, unit
from ..surrogate import Array, Surrogate

LEVELS = 64
"""Places that stand for a range."""


def numbers(space: pd.DataFrame) -> pd.DataFrame:
    """The hyperparameters that have a range."""
    return space[(space.kind == "number") & (space.high > space.low)]


def varying(space: pd.DataFrame) -> list[Any]:
    """The hyperparameters that can vary, as rows of the space."""
    return [row for row in space.itertuples() if _varies(row)]


def _varies(row: Any) -> bool:
    return bool(len(row.choices) > 1 if row.kind == "choice" else row.high > row.low)


def column_indices(surrogate: Surrogate, row: Any) -> list[int]:
    """The indices of a hyperparameter's columns in the surrogate."""
    return [surrogate.columns.index(name) for name in columns(row)]


def levels_of(row: Any) -> Array:
    """(levels, columns) places of a hyperparameter: all of a choice or of few whole numbers, of a range LEVELS."""
    count = len(columns(row))
    if count > 1:
        return np.eye(count)
    if row.kind == "choice":
        return np.linspace(0, 1, len(row.choices))[:, None]
    if row.whole and row.high - row.low < LEVELS:
        values: Array = scaled(np.arange(row.low, row.high + 1), row)
        return values[:, None]
    return ((np.arange(LEVELS) + 0.5) / LEVELS)[:, None]


def scattered(space: pd.DataFrame, surrogate: Surrogate, count: int, seed: int = 0) -> Array:
    """(count, d) places spread evenly over the space (Sobol'), at levels of the hyperparameters."""
    spread = stats.qmc.Sobol(len(surrogate.columns), seed=seed).random(count)
    places: Array = np.zeros_like(spread)
    for row in varying(space):
        levels = levels_of(row)
        indices = column_indices(surrogate, row)
        places[:, indices] = levels[(spread[:, indices[0]] * len(levels)).astype(int)]
    return places


def best_places(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate, count: int = 3) -> Array:
    """(count, d) places of the complete trials with the highest estimates, in the order of their numbers."""
    places: Array = unit(trials[trials.score.notna()].sort_values("number"), space).to_numpy(float)
    best = np.argsort(-surrogate.mean(places), kind="stable")[:count]
    return places[np.sort(best)]


def along(others: Array, column: int, grid: Array) -> Array:
    """(len(grid), len(others), d): the places of `others` with one column set to each value of the grid."""
    places = np.repeat(others[None], len(grid), axis=0)
    places[:, :, column] = grid[:, None]
    return places

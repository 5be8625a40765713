"""The true score along one hyperparameter, or over two."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cifar.intervals import interval

from ..scaling import unscaled
from ..surrogate import Surrogate
from .places import along, best_places, numbers

RESPONSE = ["hyperparameter", "value", "estimate", "low", "high"]


def response(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate) -> pd.DataFrame:
    """hyperparameter, value, estimate, low, high: the true score along each range, the others as in the three best.

    The partial dependence of the surrogate (Friedman 2001), at the places that matter.
    """
    others = best_places(trials, space, surrogate)
    grid = np.linspace(0, 1, 21)
    tables = []
    for row in numbers(space).itertuples():
        draws = surrogate.draw(along(others, surrogate.columns.index(row.hyperparameter), grid))
        low, high = interval(draws)
        scores = {"value": unscaled(grid, row), "estimate": draws.mean(1), "low": low, "high": high}
        tables.append(pd.DataFrame({"hyperparameter": row.hyperparameter} | scores))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=RESPONSE)


def surface(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate, x: str, y: str) -> pd.DataFrame:
    """The estimated score over two ranges, the others as in the three best: index y, columns x."""
    others = best_places(trials, space, surrogate)
    grid = np.linspace(0, 1, 25)
    first = surrogate.columns.index(x)
    second = surrogate.columns.index(y)
    places = np.repeat(along(others, first, grid)[None], len(grid), axis=0)
    places[..., second] = grid[:, None, None]
    estimates = surrogate.mean(places.reshape(-1, len(others), others.shape[1])).reshape(len(grid), len(grid))
    rows = {row.hyperparameter: row for row in numbers(space).itertuples()}
    return pd.DataFrame(estimates, index=unscaled(grid, rows[y]), columns=unscaled(grid, rows[x]))

"""Whether the best value of a hyperparameter lies at an end of its range, or beyond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..scaling import unscaled
from ..surrogate import Array, Surrogate
from .places import along, best_places, numbers

EDGE = 0.1
"""The share of a range, at either end, that counts as its edge."""
STEPS = 20
"""Steps of the grid along a range."""
SURE = 0.9
"""An end is called an edge where it beats the inside with at least this probability."""


def boundaries(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate) -> pd.DataFrame:
    """hyperparameter, side, verdict, probability, low, high, wider: whether the best lies at or beyond an end.

    The score along one hyperparameter, with the others as in the three trials estimated best, has its maximum in the
    outermost tenth: `probability`. edge: more likely than not, and the end beats the place a quarter of the range
    inside with a probability of at least SURE. inside: a probability of at most a half, and the rest beats the end as
    surely; else open. low and high: the range to try next; wider: whether it is another one.
    (Bergstra and Bengio 2012 look at the same by eye; Jones et al. 1998 for the surrogate.)
    """
    others = best_places(trials, space, surrogate)
    grid = np.linspace(0, 1, STEPS + 1)
    rows = []
    for row in numbers(space).itertuples():
        draws = surrogate.draw(along(others, surrogate.columns.index(row.hyperparameter), grid))
        rows += [_side(row, "low", draws), _side(row, "high", draws[::-1])]
    return pd.DataFrame(rows, columns=["hyperparameter", "side", "verdict", "probability", "low", "high", "wider"])


def _side(row: Any, side: str, draws: Array) -> dict[str, Any]:
    """The verdict on one end of a range; `draws` are of the score along it, from that end inwards."""
    at_end = float((draws.argmax(0) <= round(EDGE * STEPS)).mean())
    rises = float((draws[0] > draws[STEPS // 4]).mean())
    beaten = float((draws.max(0) > draws[0]).mean())
    verdict = "open"
    low = row.low
    high = row.high
    if at_end > 0.5 and rises >= SURE:
        verdict = "edge"
        low, high = widened(row, side)
    elif at_end <= 0.5 and beaten >= SURE:
        verdict = "inside"
    end = {"hyperparameter": row.hyperparameter, "side": side, "verdict": verdict, "probability": at_end}
    return end | {"low": low, "high": high, "wider": low < row.low or high > row.high}


def widened(row: Any, side: str) -> tuple[float, float]:
    """The range with half of it added on one side; what lies in [0, 1) stays there, what is not negative too."""
    place = -0.5 if side == "low" else 1.5
    end = float(unscaled(place, row))
    if side == "high" and not row.log and row.low >= 0 and 0.5 < row.high < 1:
        return row.low, 1 - float(f"{(1 - row.high) / 2:.2g}")
    if side == "low" and row.low >= 0:
        end = max(end, 0.0)
    if row.whole:
        end = max(np.floor(end), 1.0 if row.log else -np.inf) if side == "low" else np.ceil(end)
    else:
        end = _rounded(end, abs(end - (row.low if side == "low" else row.high)) / 10)
    return (end, row.high) if side == "low" else (row.low, end)


def _rounded(value: float, error: float) -> float:
    """With the fewest digits, two at least, that change it by no more than `error`."""
    shorter = (float(f"{value:.{digits}g}") for digits in range(2, 17))
    return next((short for short in shorter if abs(short - value) <= error), value)

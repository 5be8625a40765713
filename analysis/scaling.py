"""Hyperparameters as places in [0, 1], and back. A `row` is a row of the spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

MANY = 6
"""Names of a choice from which on its columns share a length scale."""


def unit(trials: pd.DataFrame, space: pd.DataFrame) -> pd.DataFrame:
    """The trials' hyperparameters in [0, 1], columns by hyperparameter; of a choice of names a column for each.

    Numbers are scaled from the smallest to the largest of their range, by their logarithm where the search does so.
    Choices of numbers take equal steps.
    """
    places: dict[str, pd.Series[float]] = {}
    for row in space.itertuples():
        places |= _columns_of(trials[f"params.{row.hyperparameter}"], row)
    return pd.DataFrame(places, index=trials.index, dtype=float)


def _columns_of(values: pd.Series[Any], row: Any) -> dict[str, pd.Series[float]]:
    """The columns in `unit` of one hyperparameter's values."""
    names = columns(row)
    if row.kind != "choice":
        return {names[0]: scaled(values.astype(float), row)}
    if len(names) > 1:
        chosen = values.map(lambda value: _index(value, row.choices))
        return {name: (chosen == number).astype(float) for number, name in enumerate(names)}
    order = row.choices if np.isnan(row.low) else sorted(row.choices)
    return {names[0]: values.map(lambda value: _index(value, order)) / max(1, len(order) - 1)}


def _index(value: Any, choices: Sequence[Any]) -> int:
    """The index of a value in the choices; a frame keeps None beside numbers as NaN."""
    return choices.index(None if value != value else value)


def groups(space: pd.DataFrame) -> list[int]:
    """By column in `unit`, the number of the length scale that it has in the surrogate.

    The columns of a choice of many names share one: with a length scale for each, 16 names took 9.5 s.
    """
    numbers: list[int] = []
    for row in space.itertuples():
        names = columns(row)
        first = max(numbers, default=-1) + 1
        shared = len(names) > MANY
        numbers += [first if shared else first + index for index in range(len(names))]
    return numbers


def columns(row: Any) -> list[str]:
    """The names of a hyperparameter's columns in `unit`: numbered, as the texts of choices may be equal (1 and "1")."""
    several = row.kind == "choice" and len(row.choices) > 2 and np.isnan(row.low)
    return [f"{row.hyperparameter}\0{i}" for i in range(len(row.choices))] if several else [row.hyperparameter]


def scaled(values: Any, row: Any) -> Any:
    """Values of a range as places in [0, 1]."""
    scale = np.log if row.log else np.asarray
    low = scale(row.low)
    high = scale(row.high)
    return (scale(values) - low) / (high - low) if high > low else values * 0.0


def unscaled(places: Any, row: Any) -> Any:
    """Places in [0, 1], or beyond, as values of a range."""
    low, high = np.log([row.low, row.high]) if row.log else (row.low, row.high)
    values = low + np.asarray(places) * (high - low)
    return np.exp(values) if row.log else values

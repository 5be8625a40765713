"""Recipes compared: at equal budget, by their cost, and trial against trial."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar.intervals import interval

from .budget import best_of_n


def recipes(scores: pd.DataFrame, costs: tuple[str, ...] = ("parameters", "flops", "seconds")) -> pd.DataFrame:
    """recipe, trials, best, expected, and means of the costs, pareto: recipes and architectures at equal budget.

    `scores` has recipe, score and the costs, a row a trial. expected: the best of as many trials as the recipe with
    the fewest has (Dodge et al. 2019). pareto: no other recipe expects more for no more of the first cost.
    """
    fewest = int(scores.groupby("recipe").size().min())
    rows = []
    for recipe, trials in scores.groupby("recipe"):
        expected = best_of_n(trials.score).unbiased.iloc[fewest - 1]
        row = {"recipe": recipe, "trials": len(trials), "best": trials.score.max(), "expected": expected}
        rows.append(row | {cost: trials[cost].astype(float).mean() for cost in costs})
    compared = pd.DataFrame(rows)
    compared = compared.assign(pareto=pareto(compared.expected, compared[costs[0]]))
    return compared.sort_values("expected", ascending=False, ignore_index=True)


def pareto(scores: Any, costs: Any) -> NDArray[np.bool_]:
    """Whether no other has a higher score for no higher cost."""
    scores = np.asarray(scores, float)
    costs = np.asarray(costs, float)
    beaten = [((scores > score) & (costs <= cost)).any() for score, cost in zip(scores, costs, strict=True)]
    return ~np.array(beaten, bool)


def improvement(a: Any, b: Any, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """probability, low, high: that a trial of `a` scores above one of `b`, a tie counting half.

    Mann and Whitney's U over all pairs, with a stratified bootstrap interval (Agarwal et al. 2021, rliable).
    """
    a = np.asarray(a, float)
    b = np.asarray(b, float)
    random = np.random.default_rng(seed)
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    rows = random.integers(len(a), size=(resamples, len(a)))
    columns = random.integers(len(b), size=(resamples, len(b)))
    resampled = np.array([wins[np.ix_(r, c)].mean() for r, c in zip(rows, columns, strict=True)])
    low, high = interval(resampled)
    return pd.DataFrame([{"probability": wins.mean(), "low": low, "high": high}])

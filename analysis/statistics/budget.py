"""What a search of fewer trials would have reached."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from ..surrogate import Array

ENDED = ("complete", "pruned", "failed", "diverged")
"""Outcomes of trials that used a part of the budget."""


def best_of_n(scores: Any) -> pd.DataFrame:
    """n, expected (best of n trials drawn with replacement), unbiased (without), sd: of n = 1 to all.

    Dodge et al. 2019, Show your work; the unbiased form of Tang et al. 2020, Showing your work doesn't always work.
    """
    values = np.sort(np.asarray(scores, float))
    total = len(values)
    rank = np.arange(1, total + 1)
    rows = []
    for n in range(1, total + 1):
        weights = (rank / total) ** n - ((rank - 1) / total) ** n
        mean = weights @ values
        sd = np.sqrt(weights @ np.square(values - mean))
        rows.append((n, mean, _without_replacement(rank, n, total) @ values, sd))
    return pd.DataFrame(rows, columns=["n", "expected", "unbiased", "sd"])


def _without_replacement(rank: NDArray[Any], n: int, total: int) -> Array:
    """The probability that each rank is the highest of n drawn without replacement."""
    possible = rank >= n
    r = np.where(possible, rank, n)
    logs = gammaln(r) - gammaln(n) - gammaln(r - n + 1) - (gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1))
    return np.where(possible, np.exp(logs), 0.0)


def enough_trials(curve: pd.DataFrame, noise: float) -> int:
    """The smallest n whose expected best lies within one s.d. of the noise of the best of all."""
    return int(curve.n[curve.unbiased >= curve.unbiased.iloc[-1] - noise].iloc[0])


def budget_scores(trials: pd.DataFrame) -> pd.Series[float]:
    """The score of each trial that ended: of a pruned one its last, of a failed one the worst of all."""
    ended = trials[trials.outcome.isin(ENDED)]
    scores = ended.score.fillna(ended.last_score.where(ended.outcome == "pruned"))
    return scores.fillna(scores.min()).dropna()

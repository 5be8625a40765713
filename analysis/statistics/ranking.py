"""Which of the complete trials may be the best."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cifar.intervals import interval

from ..scaling import unit
from ..surrogate import Surrogate
from .model import LARGEST


def top_trials(
    trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate, winner: int | None = None
) -> pd.DataFrame:
    """The best LARGEST complete trials, best first: number, score, estimate (of the true score), low, high, tied, best.

    The first row is the winner: the trial with that number, where one is given. tied: not worse than the winner, by
    the interval of the difference. best: the probability of truly being the best of all (Bayesian ranking and
    selection; Frazier 2018, A tutorial on Bayesian optimization).
    """
    complete = trials[trials.score.notna()].sort_values(["score", "number"], ascending=[False, True])
    complete = complete.sort_values("number", key=lambda number: number != winner, kind="stable")[:LARGEST]
    draws = surrogate.draw(unit(complete, space).to_numpy(float))
    low, high = interval(draws)
    _, better = interval(draws - draws[0])
    best = np.bincount(draws.argmax(0), minlength=len(draws)) / draws.shape[1]
    ranked = complete[["number", "score"]].assign(estimate=draws.mean(1), low=low, high=high)
    return ranked.assign(tied=better >= 0, best=best).reset_index(drop=True)

"""The surrogate of a search."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cifar.errors import UserError

from ..scaling import groups, unit
from ..surrogate import Noise, Surrogate, observations
from .places import varying

FEWEST = 5
"""With fewer complete trials a search says nothing about its hyperparameters."""
LARGEST = 200
"""Trials that are modelled, at most: the time grows with the square of their number."""
OUTLIER = 1000
"""A score so many times as far below the median as the best is above it is not modelled, as a failed trial is not."""


class StatisticsError(UserError):
    """Frames from which a statistic cannot be computed."""


def surrogate_of(
    trials: pd.DataFrame,
    space: pd.DataFrame,
    curves: pd.DataFrame,
    noise: Noise | None = None,
    fresh: pd.DataFrame | None = None,
) -> Surrogate:
    """The surrogate of the trials of one branch; `curves` has their number, step and score, `noise` is a prior.

    `fresh` has number and score of trials that ran again with other seeds; the surrogate learns from them too. Without
    a prior the noise is assumed to be about a fifth of the distance from the median to the best.
    Raises StatisticsError where too few trials are complete.
    """
    steps = {number: dict(zip(rows.step, rows.score, strict=True)) for number, rows in curves.groupby("number")}
    observed = observations(trials, {number: steps.get(number, {}) for number in trials.number})
    observed = observed[~is_outlier(observed.score)]
    complete = observed.score[observed.extra == 0]
    _check(complete, space)
    default = Noise(max(float(complete.max() - complete.median()) / 5, 1e-6), 1.0)
    repeated = observed[:0] if fresh is None else _repeated(trials, fresh)
    observed = pd.concat([_sample(observed, {complete.idxmax(), *repeated.index}), repeated])
    places = unit(trials.loc[observed.index], space)
    return Surrogate(places, observed.score.to_numpy(), observed.extra.to_numpy(), noise or default, groups(space))


def _sample(observed: pd.DataFrame, always: set[Any]) -> pd.DataFrame:
    """LARGEST of the observations: those of the trials in `always`, and others by chance.

    Not the best ones, which were the luckiest too: a model of these alone would take luck for skill.
    """
    if len(observed) <= LARGEST:
        return observed
    kept = observed.index.isin(always)
    others = observed[~kept].sample(max(LARGEST - kept.sum(), 0), random_state=0)
    return observed[kept | observed.index.isin(others.index)]


def is_outlier(scores: pd.Series[float]) -> pd.Series[bool]:
    """Which scores are far too low, as a loss of 1e8 among losses below 1: they would hide all differences."""
    median = scores.median()
    lead = scores.max() - median
    return scores < median - OUTLIER * lead if lead > 0 else pd.Series(False, scores.index)


def _check(complete: pd.Series[float], space: pd.DataFrame) -> None:
    """Raises StatisticsError where these scores of complete trials say nothing about the space."""
    if len(complete) < FEWEST:
        raise StatisticsError(
            f"trials complete: {len(complete)}; at least {FEWEST} are needed to distinguish signal from noise"
        )
    if not varying(space):
        raise StatisticsError("nothing was searched")
    if complete.max() == complete.min():
        raise StatisticsError(f"all {len(complete)} complete trials have the same score")


def _repeated(trials: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """The fresh scores as observations: score and extra, by the index of the trial that they repeat."""
    index = dict(zip(trials.number, trials.index, strict=True))
    repeats = fresh[fresh.number.isin(list(index))]
    return pd.DataFrame({"score": repeats.score.to_numpy(), "extra": 0.0}, index=repeats.number.map(index))

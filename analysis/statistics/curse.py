"""The winner's curse: how much too high the score of a trial is that was chosen for its score."""

from __future__ import annotations

import pandas as pd

from cifar.intervals import mean_interval


def winners_curse(top: pd.DataFrame) -> pd.DataFrame:
    """How much too high the best reported score is, before confirmation: number, reported, estimate, curse, low, high.

    The posterior, which knows all trials, needs no further correction for having picked the best (Dawid 1994,
    Selection paradoxes of Bayesian inference; Efron 2011, Tweedie's formula and selection bias).
    """
    winner = top.iloc[0]
    curse, low, high = winner.score - winner[["estimate", "high", "low"]].astype(float)
    row = {"number": int(winner.number), "reported": winner.score, "estimate": winner.estimate}
    return pd.DataFrame([row | {"curse": curse, "low": low, "high": high}])


def measured_curse(fresh: pd.DataFrame) -> pd.DataFrame:
    """The same after confirmation: a row for each trial of `fresh` (number, reported, score; one row a fresh seed).

    low and high: Student's interval over the seeds; NaN where there is only one.
    """
    rows = []
    for number, runs in fresh.groupby("number", sort=False):
        reported = runs.reported.iloc[0]
        mean, low, high = mean_interval(runs.score)
        row = {"number": number, "reported": reported, "estimate": mean, "curse": reported - mean}
        rows.append(row | {"low": reported - high, "high": reported - low, "seeds": len(runs)})
    return pd.DataFrame(rows, columns=["number", "reported", "estimate", "curse", "low", "high", "seeds"])

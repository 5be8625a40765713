"""Which hyperparameters matter, and how much."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from numpy.polynomial.legendre import legvander
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from scipy import stats

from cifar.intervals import LEVEL, interval

from ..scaling import columns, unit
from ..surrogate import Array, Surrogate
from .places import LEVELS, column_indices, levels_of, scattered, varying
from .scratch import scratch_study

MAX_LEVELS, PLACES = 64, 512
"""Of a choice of many names, so many are compared, at so many places in all: the time grows with their square."""
DEGREE = 4
"""The degree of the polynomial in one hyperparameter from which its share of the variance is computed."""


class Effect(NamedTuple):
    """The largest difference of the score along one hyperparameter; `certain`: its interval does not hold 0."""

    size: float
    low: float
    high: float
    certain: bool


def importance(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate) -> pd.DataFrame:
    """hyperparameter, importance, low, high, effect, effect_low, effect_high, fanova, ped_anova, verdict; sorted.

    importance: the share of the score's variance over the whole space that the hyperparameter alone explains
    (functional ANOVA, Hutter et al. 2014; Sobol' index, here by polynomials as Sudret 2008), in draws of the surrogate:
    a search crowds its trials where it was lucky, so shares of the trials themselves mislead. effect: how far the score
    moves between its best and its worst value, averaged over the others. verdict: "matters", or "not distinguishable
    from noise" where the interval of that difference holds 0 (Bonferroni for a slope and a bend). fanova and ped_anova:
    what Optuna's evaluators say of the trials themselves; of their best quarter in the second (Watanabe et al. 2023).
    """
    shares = _shares(space, surrogate)
    fanova = _evaluated(FanovaImportanceEvaluator(seed=0), trials, space)
    ped_anova = _evaluated(PedAnovaImportanceEvaluator(target_quantile=0.25), trials, space)
    rows = []
    for hyperparameter in varying(space):
        name = hyperparameter.hyperparameter
        low, high = interval(shares[name])
        effect = _effect(space, surrogate, hyperparameter)
        rows.append(
            {
                "hyperparameter": name,
                "importance": shares[name].mean(),
                "low": low if effect.certain else 0.0,
                "high": high,
                "effect": effect.size,
                "effect_low": effect.low,
                "effect_high": effect.high,
                "fanova": fanova[name],
                "ped_anova": ped_anova[name],
                "verdict": "matters" if effect.certain else "not distinguishable from noise",
            }
        )
    return pd.DataFrame(rows).sort_values("importance", ascending=False, ignore_index=True)


def _shares(space: pd.DataFrame, surrogate: Surrogate) -> dict[str, Array]:
    """By hyperparameter, the share of the variance that a function of it alone explains, in each draw."""
    places = scattered(space, surrogate, 128)
    rows = varying(space)
    draws = surrogate.draw(places)
    levels = [levels_of(row) for row in rows]
    indices = [column_indices(surrogate, row) for row in rows]
    bases = [_basis(each, places[:, index]) for each, index in zip(levels, indices, strict=True)]
    whole = np.hstack([np.ones((len(places), 1)), *bases])
    fitted = np.linalg.lstsq(whole, draws, rcond=None)[0]
    ends = np.cumsum([basis.shape[1] for basis in bases])[:-1]
    parts = np.split(fitted[1:], ends)
    variances = [(_basis(each, each) @ part).var(0) for each, part in zip(levels, parts, strict=True)]
    explained = np.array(variances)
    shares = explained / (explained.sum(0) + (draws - whole @ fitted).var(0))
    return dict(zip([row.hyperparameter for row in rows], shares, strict=True))


def _basis(levels: Array, places: Array) -> Array:
    """(n, functions): functions of a hyperparameter at its places (n, columns).

    One for each of several names; of a range polynomials, of a degree that its levels allow.
    """
    if places.shape[1] > 1:
        return places
    return np.asarray(legvander(2 * places[:, 0] - 1, min(DEGREE, len(levels) - 1)), np.float64)[:, 1:]


def _effect(space: pd.DataFrame, surrogate: Surrogate, row: Any) -> Effect:
    """The largest difference of the score along one hyperparameter, averaged over the others."""
    levels = levels_of(row)
    if row.kind != "choice" and len(levels) >= LEVELS:
        levels = np.linspace(0, 1, 7)[:, None]
    levels = levels[np.linspace(0, len(levels) - 1, min(len(levels), MAX_LEVELS)).astype(int)]
    others = scattered(space, surrogate, max(4, min(32, PLACES // len(levels))), seed=1)
    places = np.repeat(others[None], len(levels), axis=0)
    places[:, :, column_indices(surrogate, row)] = levels[:, None]
    draws = surrogate.draw(places)
    means = draws.mean(1)
    difference = draws[means.argmax()] - draws[means.argmin()]
    low, high = interval(difference)
    corrected_low, _ = interval(difference, 1 - (1 - LEVEL) / 2)
    return Effect(float(difference.mean()), float(low), float(high), bool(corrected_low > 0))


def _evaluated(evaluator: Any, trials: pd.DataFrame, space: pd.DataFrame) -> dict[str, float]:
    """By hyperparameter, what Optuna's evaluator says of the complete trials."""
    complete = trials[trials.score.notna()]
    if complete.score.nunique() < 2:  # only pruned trials differ
        return dict.fromkeys(space.hyperparameter, float("nan"))
    study, names = _scaled_study(complete, space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except RuntimeError:  # no tree of fANOVA splits these trials
            return dict.fromkeys(names, float("nan"))
    return {name: importances.get(name, 0.0) for name in names}


def _scaled_study(complete: pd.DataFrame, space: pd.DataFrame) -> tuple[optuna.Study, list[str]]:
    """The trials as a study with hyperparameters in [0, 1], because the evaluators take no logarithm of a range."""
    inputs = _inputs(complete, space)
    scores = stats.zscore(complete.score.to_numpy(float))
    study = scratch_study()
    distributions: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in inputs}
    for number, score in enumerate(scores):
        params = {name: float(np.clip(values[number], 0, 1)) for name, values in inputs.items()}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=float(score)))
    return study, list(inputs)


def _inputs(complete: pd.DataFrame, space: pd.DataFrame) -> dict[str, Array]:
    """By hyperparameter, its place in each trial; names of a choice take equal steps."""
    places = unit(complete, space)
    inputs: dict[str, Array] = {}
    for row in space.itertuples():
        values = places[columns(row)].to_numpy(float)
        steps = np.linspace(0, 1, values.shape[1])
        inputs[str(row.hyperparameter)] = values @ steps if values.shape[1] > 1 else values[:, 0]
    return inputs

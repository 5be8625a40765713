"""What follows from the frames: each function takes and returns frames, and names its source.

Scores are shares of 1, larger is better. Intervals (columns low and high) are of 95%. What a search alone can say
comes from its surrogate: `model` makes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from scipy import stats
from scipy.special import gammaln

from analysis.surrogate import Noise, Surrogate, columns, observations, scaled, unit, unscaled
from cifar.errors import UserError

Array = NDArray[np.float64]
LEVEL = 0.95
FEWEST = 5
"""Complete trials below which a search says nothing about its hyperparameters."""
EDGE = 0.1
"""The share of a range, at either end, that counts as its edge."""
DEGREE = 4
"""Of the polynomial in one hyperparameter that its share of the variance is told by."""
LEVELS = 64
"""Places that stand for a range."""
RESPONSE = ["hyperparameter", "value", "estimate", "low", "high"]
SURE = 0.9
"""A side of a range is called an edge where it is better than the inside with at least this probability."""


class StatisticsError(UserError):
    """Frames from which a statistic cannot be computed."""


def model(
    trials: pd.DataFrame,
    space: pd.DataFrame,
    curves: pd.DataFrame,
    noise: Noise | None = None,
    fresh: pd.DataFrame | None = None,
) -> Surrogate:
    """The surrogate of the trials of one branch; `curves` has their number, step and score, `noise` is a prior.

    `fresh` has number and score of trials that ran again on other seeds, which the surrogate learns from too. Without a
    prior the noise is taken to be about a fifth of the distance from the median to the best.
    Raises StatisticsError where too few trials are complete.
    """
    steps = {number: dict(zip(rows.step, rows.score, strict=True)) for number, rows in curves.groupby("number")}
    seen = observations(trials, {number: steps.get(number, {}) for number in trials.number})
    complete = seen.score[seen.extra == 0]
    if len(complete) < FEWEST:
        raise StatisticsError(
            f"{len(complete)} complete trials: at least {FEWEST} are needed to tell signal from noise"
        )
    if not _varying(space):
        raise StatisticsError("nothing was searched")
    if complete.max() == complete.min():
        raise StatisticsError(f"all {len(complete)} complete trials have the same score")
    guess = max(float(complete.max() - complete.median()) / 5, 1e-6)
    if fresh is not None:
        index = dict(zip(trials.number, trials.index, strict=True))
        again = fresh[fresh.number.isin(list(index))]
        rows = pd.DataFrame({"score": again.score.to_numpy(), "extra": 0.0}, index=again.number.map(index))
        seen = pd.concat([seen, rows])
    places = unit(trials.loc[seen.index], space)
    return Surrogate(places, seen.score.to_numpy(), seen.extra.to_numpy(), noise or Noise(guess, 1.0))


def binomial_noise(accuracy: float, images: int) -> Noise:
    """What to expect of the noise of an accuracy measured on so many images, before any is measured.

    Runs that differ in their seed alone differ about as if each had drawn its images anew (Jordan 2023, Calibrated
    chaos: variance between runs of neural network training is harmless and inevitable).
    """
    return Noise(max(float(np.sqrt(accuracy * (1 - accuracy) / images)), 1e-6))


def interval(draws: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """The equal-tailed interval of draws along the last axis."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return low, high


def top_trials(
    trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate, winner: int | None = None
) -> pd.DataFrame:
    """The complete trials, best score first: number, score, estimate (of the true score), low, high, tied, best.

    The first row is the winner: that number where one is given. tied: not worse than it, by the interval of the
    difference. best: the probability of being
    the truly best of them (Bayesian ranking and selection; Frazier 2018, A tutorial on Bayesian optimization).
    """
    complete = trials[trials.score.notna()].sort_values(["score", "number"], ascending=[False, True])
    complete = complete.sort_values("number", key=lambda number: number != winner, kind="stable")
    draws = surrogate.draw(unit(complete, space).to_numpy(float))
    low, high = interval(draws)
    _, better = interval(draws - draws[0])
    best = np.bincount(draws.argmax(0), minlength=len(draws)) / draws.shape[1]
    found = complete[["number", "score"]].assign(estimate=draws.mean(1), low=low, high=high)
    return found.assign(tied=better >= 0, best=best).reset_index(drop=True)


def winners_curse(top: pd.DataFrame) -> pd.DataFrame:
    """How much too high the best reported score is, before confirmation: reported, estimate, curse, low, high.

    The posterior given all trials needs no further correction for having picked the best (Dawid 1994, Selection
    paradoxes of Bayesian inference; Efron 2011, Tweedie's formula and selection bias).
    """
    winner = top.iloc[0]
    curse = winner.score - winner[["estimate", "high", "low"]].astype(float)
    row = {"number": int(winner.number), "reported": winner.score, "estimate": winner.estimate}
    return pd.DataFrame([row | dict(zip(("curse", "low", "high"), curse, strict=True))])


def measured_curse(fresh: pd.DataFrame) -> pd.DataFrame:
    """The same after confirmation, a row for each trial of `fresh` (number, reported, score: a row a fresh seed).

    low and high: Student's interval over the seeds; NaN of a single one.
    """
    rows = []
    for number, runs in fresh.groupby("number", sort=False):
        reported, (mean, low, high) = runs.reported.iloc[0], mean_interval(runs.score)
        row = {"number": number, "reported": reported, "estimate": mean, "curse": reported - mean}
        rows.append(row | {"low": reported - high, "high": reported - low, "seeds": len(runs)})
    return pd.DataFrame(rows, columns=["number", "reported", "estimate", "curse", "low", "high", "seeds"])


def mean_interval(values: Any) -> tuple[float, float, float]:
    """Mean, and Student's t interval of it (Student 1908); NaN where there are fewer than two values."""
    values = np.asarray(values, float)
    mean, error = float(values.mean()), stats.sem(values) if len(values) > 1 else np.nan
    if not error > 0:
        return (mean, mean, mean) if error == 0 else (mean, np.nan, np.nan)
    low, high = stats.t.interval(LEVEL, len(values) - 1, mean, error)
    return mean, float(low), float(high)


def wilson(share: float, images: int) -> tuple[float, float]:
    """The interval of an accuracy on so many images (Wilson 1927), as if they were drawn from all there could be."""
    found = stats.binomtest(round(share * images), images).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def accuracy_on_test(tests: pd.DataFrame) -> pd.DataFrame:
    """look, number, accuracy (mean over seeds), low, high, wilson_low, wilson_high, seeds, images: of one look.

    low and high: Student's interval over the seeds; wilson_low and wilson_high: Wilson's over the images.
    """
    images = int(tests.images.min())
    mean, low, high = mean_interval(tests.accuracy)
    of_images = dict(zip(("wilson_low", "wilson_high"), wilson(mean, images), strict=True))
    seeds = {"accuracy": mean, "low": np.clip(low, 0, 1), "high": np.clip(high, 0, 1)}
    row = {"look": tests["look"].max(), "number": tests.number.iloc[0]} | seeds
    return pd.DataFrame([row | of_images | {"seeds": len(tests), "images": images}])


def noise_floor(runs: pd.DataFrame) -> pd.DataFrame:
    """The s.d. between runs that differ by seed alone: sd, low, high, df; `runs` has group and score.

    Pooled over the groups, with the chi-squared interval of a variance; no row where no group has two runs.
    """
    groups = [rows.score.to_numpy(float) for _, rows in runs.groupby("group") if len(rows) > 1]
    df = sum(len(values) - 1 for values in groups)
    if not df:
        return pd.DataFrame(columns=["sd", "low", "high", "df"])
    squares = sum(float(np.square(values - values.mean()).sum()) for values in groups)
    high, low = np.sqrt(squares / stats.chi2.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], df))
    return pd.DataFrame([{"sd": np.sqrt(squares / df), "low": low, "high": high, "df": df}])


def _numbers(space: pd.DataFrame) -> pd.DataFrame:
    """The hyperparameters that have a range."""
    return space[(space.kind == "number") & (space.high > space.low)]


def boundaries(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate) -> pd.DataFrame:
    """hyperparameter, side, verdict, probability, low, high: whether the best lies at or beyond an end of its range.

    The score along one hyperparameter, with the others as in the three trials estimated best, has its maximum in the
    outermost tenth: `probability`. edge: more likely than not, and the end beats the place a quarter of the range
    inside with a probability of at least SURE. inside: a probability below a half and the rest beats the end as
    surely; else open. low and high: the range to try next, where it is to be widened.
    (Bergstra and Bengio 2012 look at the same by eye; Jones et al. 1998 for the surrogate.)
    """
    others = _best_places(trials, space, surrogate)
    grid, rows = np.linspace(0, 1, 21), []
    for row in _numbers(space).itertuples():
        draws = surrogate.draw(_along(others, surrogate.columns.index(row.hyperparameter), grid))
        for side, along in (("low", draws), ("high", draws[::-1])):
            at = float((along.argmax(0) <= round(EDGE * 20)).mean())
            rises = float((along[0] > along[5]).mean())
            inside = float((along.max(0) > along[0]).mean())
            edge = at > 0.5 and rises >= SURE
            verdict = "edge" if edge else "inside" if at <= 0.5 and inside >= SURE else "open"
            low, high = _widened(row, side) if edge else (row.low, row.high)
            found = {"hyperparameter": row.hyperparameter, "side": side, "verdict": verdict, "probability": at}
            rows.append(found | {"low": low, "high": high})
    return pd.DataFrame(rows, columns=["hyperparameter", "side", "verdict", "probability", "low", "high"])


def _best_places(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate, count: int = 3) -> Array:
    """Of the complete trials, those with the highest estimates, in the order of their numbers."""
    places = unit(trials[trials.score.notna()].sort_values("number"), space).to_numpy(float)
    return places[np.sort(np.argsort(-surrogate.mean(places), kind="stable")[:count])]


def response(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate) -> pd.DataFrame:
    """hyperparameter, value, estimate, low, high: the true score along each range, the others as in the three best.

    The partial dependence of the surrogate (Friedman 2001), at the places that matter.
    """
    others, grid = _best_places(trials, space, surrogate), np.linspace(0, 1, 21)
    rows = []
    for row in _numbers(space).itertuples():
        draws = surrogate.draw(_along(others, surrogate.columns.index(row.hyperparameter), grid))
        low, high = interval(draws)
        along = {"value": unscaled(grid, row), "estimate": draws.mean(1), "low": low, "high": high}
        rows.append(pd.DataFrame({"hyperparameter": row.hyperparameter} | along))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=RESPONSE)


def surface(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate, x: str, y: str) -> pd.DataFrame:
    """The estimated score over two ranges, the others as in the three best: index y, columns x."""
    others, grid = _best_places(trials, space, surrogate), np.linspace(0, 1, 25)
    first, second = (surrogate.columns.index(name) for name in (x, y))
    places = np.repeat(_along(others, first, grid)[None], len(grid), axis=0)
    places[..., second] = grid[:, None, None]
    found = surrogate.mean(places.reshape(-1, len(others), others.shape[1])).reshape(len(grid), len(grid))
    rows = {row.hyperparameter: row for row in _numbers(space).itertuples()}
    return pd.DataFrame(found, index=unscaled(grid, rows[y]), columns=unscaled(grid, rows[x]))


def _along(others: Array, column: int, grid: Array) -> Array:
    """(len(grid), len(others), d): the others' places with one column set to each value of the grid."""
    places = np.repeat(others[None], len(grid), axis=0)
    places[:, :, column] = grid[:, None]
    return places


def _widened(row: Any, side: str) -> tuple[float, float]:
    """The range with half of it added on one side; what lies in [0, 1) stays there, what is not negative too."""
    place = -0.5 if side == "low" else 1.5
    end = float(unscaled(place, row))
    if side == "high" and not row.log and row.low >= 0 and 0.5 < row.high < 1:
        return row.low, 1 - float(f"{(1 - row.high) / 2:.2g}")
    if side == "low" and row.low >= 0:
        end = max(end, 0.0)
    end = (np.floor(end) if side == "low" else np.ceil(end)) if row.whole else float(f"{end:.2g}")
    return (end, row.high) if side == "low" else (row.low, end)


def importance(trials: pd.DataFrame, space: pd.DataFrame, surrogate: Surrogate) -> pd.DataFrame:
    """hyperparameter, importance, low, high, effect, effect_low, effect_high, fanova, ped_anova, verdict; sorted.

    importance: the share of the score's variance over the whole space that the hyperparameter makes by itself
    (functional ANOVA, Hutter et al. 2014; Sobol' index, here by polynomials as Sudret 2008), in draws of the surrogate:
    a search crowds its trials where it was lucky, so shares of the trials themselves mislead. effect: how far the score
    moves between its best and its worst value, the others averaged. verdict: "matters", or "not distinguishable from
    noise" where the interval of that difference holds 0 (Bonferroni for a slope and a bend). fanova and ped_anova: what
    Optuna's evaluators say of the trials themselves; of their best quarter in the second (Watanabe et al. 2023).
    """
    shares = _shares(space, surrogate)
    fanova = _evaluated(FanovaImportanceEvaluator(seed=0), trials, space)
    ped = _evaluated(PedAnovaImportanceEvaluator(target_quantile=0.25), trials, space)
    rows = []
    for varying in _varying(space):
        name = varying.hyperparameter
        low, high = interval(shares[name])
        effect, effect_low, effect_high, clear = _effect(space, surrogate, varying)
        row = {"hyperparameter": name, "importance": shares[name].mean(), "low": low if clear else 0.0, "high": high}
        row |= {"effect": effect, "effect_low": effect_low, "effect_high": effect_high}
        row |= {"fanova": fanova[name], "ped_anova": ped[name]}
        rows.append(row | {"verdict": "matters" if clear else "not distinguishable from noise"})
    return pd.DataFrame(rows).sort_values("importance", ascending=False, ignore_index=True)


def _varying(space: pd.DataFrame) -> list[Any]:
    """The hyperparameters that can vary, rows of the space."""
    rows = list(space.itertuples())
    return [row for row in rows if (len(row.choices) > 1 if row.kind == "choice" else row.high > row.low)]


def _own(surrogate: Surrogate, row: Any) -> list[int]:
    """The surrogate's columns of a hyperparameter."""
    return [surrogate.columns.index(name) for name in columns(row)]


def _levels(row: Any) -> Array:
    """(levels, columns) places of a hyperparameter: all of a choice or of few whole numbers, of a range LEVELS."""
    count = len(columns(row))
    if count > 1:
        return np.eye(count)
    if row.kind == "choice":
        return np.linspace(0, 1, len(row.choices))[:, None]
    if row.whole and row.high - row.low < LEVELS:
        return scaled(np.arange(row.low, row.high + 1), row)[:, None]
    return ((np.arange(LEVELS) + 0.5) / LEVELS)[:, None]


def _basis(levels: Array, places: Array) -> Array:
    """Functions of a hyperparameter at its places (n, columns): of names each, else polynomials as its levels allow."""
    if places.shape[1] > 1:
        return places
    return np.asarray(legvander(2 * places[:, 0] - 1, min(DEGREE, len(levels) - 1)), np.float64)[:, 1:]


def _scattered(space: pd.DataFrame, surrogate: Surrogate, count: int, seed: int = 0) -> Array:
    """Places spread evenly over the space (Sobol'), at levels of the hyperparameters."""
    spread = stats.qmc.Sobol(len(surrogate.columns), seed=seed).random(count)
    places = np.zeros_like(spread)
    for row in _varying(space):
        levels, own = _levels(row), _own(surrogate, row)
        places[:, own] = levels[(spread[:, own[0]] * len(levels)).astype(int)]
    return places


def _shares(space: pd.DataFrame, surrogate: Surrogate) -> dict[str, Array]:
    """By hyperparameter, the share of the variance that a function of it alone explains, in each draw."""
    places, rows = _scattered(space, surrogate, 128), _varying(space)
    draws = surrogate.draw(places)
    bases = [_basis(_levels(row), places[:, _own(surrogate, row)]) for row in rows]
    whole = np.hstack([np.ones((len(places), 1)), *bases])
    fitted = np.linalg.lstsq(whole, draws, rcond=None)[0]
    parts = np.split(fitted[1:], np.cumsum([basis.shape[1] for basis in bases])[:-1])
    pairs = zip(map(_levels, rows), parts, strict=True)
    own = np.array([(_basis(levels, levels) @ part).var(0) for levels, part in pairs])
    names = [row.hyperparameter for row in rows]
    return dict(zip(names, own / (own.sum(0) + (draws - whole @ fitted).var(0)), strict=True))


def _evaluated(evaluator: Any, trials: pd.DataFrame, space: pd.DataFrame) -> dict[str, float]:
    """By hyperparameter, what Optuna's evaluator says of the complete trials.

    They go into a study of their own with inputs in [0, 1], for it takes no logarithm of a range.
    """
    complete = trials[trials.score.notna()]
    places = unit(complete, space)
    inputs: dict[str, Array] = {}
    for row in space.itertuples():
        own = places[columns(row)].to_numpy(float)
        inputs[str(row.hyperparameter)] = own @ np.linspace(0, 1, own.shape[1]) if own.shape[1] > 1 else own[:, 0]
    scores = stats.zscore(complete.score.to_numpy(float))
    study = scratch_study()
    distributions: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in inputs}
    for number, score in enumerate(scores):
        params = {name: float(np.clip(values[number], 0, 1)) for name, values in inputs.items()}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=float(score)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: found.get(name, 0.0) for name in inputs}


def scratch_study(name: str | None = None) -> optuna.Study:
    """An empty study in memory, of which nobody hears: for what Optuna computes and draws of studies alone."""
    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage(), study_name=name)
    optuna.logging.set_verbosity(told)
    return study


def _effect(space: pd.DataFrame, surrogate: Surrogate, row: Any) -> tuple[float, float, float, bool]:
    """The largest difference of the score along one hyperparameter, the others averaged; whether it is not 0."""
    levels, others = _levels(row), _scattered(space, surrogate, 32, seed=1)
    levels = levels if len(levels) < LEVELS else np.linspace(0, 1, 7)[:, None]
    places = np.repeat(others[None], len(levels), axis=0)
    places[:, :, _own(surrogate, row)] = levels[:, None]
    draws = surrogate.draw(places)
    best, worst = draws.mean(1).argmax(), draws.mean(1).argmin()
    difference = draws[best] - draws[worst]
    low, high = interval(difference)
    certain, _ = interval(difference, 1 - (1 - LEVEL) / 2)
    return float(difference.mean()), float(low), float(high), bool(certain > 0)


def tunability(space: pd.DataFrame, surrogate: Surrogate, default: Mapping[str, float] | None = None) -> pd.DataFrame:
    """hyperparameter, value, gain, low, high: what it alone, set to its best value, gains (Probst et al. 2019).

    Over the default; the value is the estimated best, and the interval is that of its gain.

    `default` holds values by hyperparameter; those that it lacks stand in the middle of their range, as the search
    was laid out.
    """
    default, centre = default or {}, np.full(len(surrogate.columns), 0.5)
    numbers = _numbers(space)
    for row in numbers.itertuples():
        if row.hyperparameter in default:
            centre[surrogate.columns.index(row.hyperparameter)] = scaled(default[row.hyperparameter], row)
    rows = []
    for row in numbers.itertuples():
        column = surrogate.columns.index(row.hyperparameter)
        grid = np.r_[centre[column], np.linspace(0, 1, 21)]
        draws = surrogate.draw(_along(centre[None], column, grid))
        best = draws.mean(1).argmax()
        gain = draws[best] - draws[0]
        low, high = interval(gain)
        named = {"hyperparameter": row.hyperparameter, "value": float(unscaled(grid[best], row))}
        rows.append(named | {"gain": gain.mean(), "low": low, "high": high})
    found = pd.DataFrame(rows, columns=["hyperparameter", "value", "gain", "low", "high"])
    return found.sort_values("gain", ascending=False, ignore_index=True)


def best_of_n(scores: Any) -> pd.DataFrame:
    """n, expected (best of n trials drawn with replacement), unbiased (without), sd: of n = 1 to all.

    Dodge et al. 2019, Show your work; the unbiased form of Tang et al. 2020, Showing your work doesn't always work.
    """
    values = np.sort(np.asarray(scores, float))
    total, rank = len(values), np.arange(1, len(values) + 1)
    rows = []
    for n in range(1, total + 1):
        weights = (rank / total) ** n - ((rank - 1) / total) ** n
        mean = weights @ values
        rows.append((n, mean, _without(rank, n, total) @ values, np.sqrt(weights @ np.square(values - mean))))
    return pd.DataFrame(rows, columns=["n", "expected", "unbiased", "sd"])


def _without(rank: NDArray[Any], n: int, total: int) -> Array:
    """The probability that each rank is the highest of n drawn without replacement."""
    possible = rank >= n
    r = np.where(possible, rank, n)
    logs = gammaln(r) - gammaln(n) - gammaln(r - n + 1) - (gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1))
    return np.where(possible, np.exp(logs), 0.0)


def enough_trials(curve: pd.DataFrame, noise: float) -> int:
    """The smallest n whose expected best lies within one s.d. of the noise of the best of all."""
    return int(curve.n[curve.unbiased >= curve.unbiased.iloc[-1] - noise].iloc[0])


def budget_scores(trials: pd.DataFrame) -> pd.Series[float]:
    """What each trial that ended was worth: its score, a pruned one's last, and of a failed one the worst of all."""
    ended = trials[trials.outcome.isin(["complete", "pruned", "failed", "diverged"])]
    scores = ended.score.fillna(ended.last_score.where(ended.outcome == "pruned"))
    return scores.fillna(scores.min()).dropna()


def diagnosis(epochs: pd.DataFrame) -> pd.DataFrame:
    """run, best_epoch, improving, overfitting, diverged, lr_drops: how each run learned (Prechelt 1998).

    improving: the best epoch lies in the last tenth, and the last third gained more than the accuracy's jitter from
    epoch to epoch. overfitting: the validation loss ends more than a tenth above its lowest while the training loss
    still falls. diverged: a loss that is no number, or ends above its start. lr_drops: epochs whose learning rate is
    below 0.9 of the one before.
    """
    columns = ["run", "best_epoch", "improving", "overfitting", "diverged", "lr_drops"]
    return pd.DataFrame([_learned(run, rows) for run, rows in epochs.groupby("run", sort=False)], columns=columns)


def _learned(run: Any, rows: pd.DataFrame) -> dict[str, Any]:
    rows = rows.sort_values("epoch")
    accuracy, train, val = (rows[name].to_numpy(float) for name in ("val_accuracy", "train_loss", "val_loss"))
    epochs, best = rows.epoch.to_numpy(int), int(np.nanargmax(np.where(np.isnan(accuracy), -1, accuracy)))
    third = max(1, len(rows) // 3)
    jitter = stats.median_abs_deviation(np.diff(accuracy, 2), scale="normal") / np.sqrt(6) if len(rows) > 3 else 0.0
    gained = accuracy[-third:].max() - accuracy[:-third].max() if len(rows) > third else 0.0
    lr = rows.lr.to_numpy(float)
    return {
        "run": run,
        "best_epoch": int(epochs[best]),
        "improving": bool(best + 1 > 0.9 * len(rows) and gained > jitter),
        "overfitting": bool(val[-1] > 1.1 * np.nanmin(val) and train[-1] < train[int(np.nanargmin(val))]),
        "diverged": bool(not np.isfinite(train).all() or (len(train) > 1 and train[-1] > train[0])),
        "lr_drops": int((lr[1:] < 0.9 * lr[:-1]).sum()),
    }


def failures(trials: pd.DataFrame, key: str) -> pd.DataFrame:
    """decade, trials, failed, share, low, high: of each power of ten of a learning rate, those that failed or diverged.

    The interval is Wilson's.
    """
    ended = trials[trials.outcome.isin(["complete", "pruned", "failed", "diverged"]) & (trials[f"params.{key}"] > 0)]
    decades = np.floor(np.log10(ended[f"params.{key}"].astype(float)) + 1e-9)
    rows = []
    for decade, own in ended.groupby(decades):
        failed = int(own.outcome.isin(["failed", "diverged"]).sum())
        low, high = wilson(failed / len(own), len(own))
        row = {"decade": 10.0**decade, "trials": len(own), "failed": failed, "share": failed / len(own)}
        rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows, columns=["decade", "trials", "failed", "share", "low", "high"])


def recipes(scores: pd.DataFrame, costs: tuple[str, ...] = ("parameters", "flops", "seconds")) -> pd.DataFrame:
    """recipe, trials, best, expected, and means of the costs, pareto: recipes and architectures at equal budget.

    `scores` has recipe, score and the costs, a row a trial. expected: the best of as many trials as the recipe with
    the fewest has (Dodge et al. 2019). pareto: no other recipe expects more for no more of the first cost.
    """
    fewest = int(scores.groupby("recipe").size().min())
    rows = []
    for recipe, own in scores.groupby("recipe"):
        expected = best_of_n(own.score).unbiased.iloc[fewest - 1]
        row = {"recipe": recipe, "trials": len(own), "best": own.score.max(), "expected": expected}
        rows.append(row | {cost: own[cost].astype(float).mean() for cost in costs})
    found = pd.DataFrame(rows)
    found = found.assign(pareto=pareto(found.expected, found[costs[0]]))
    return found.sort_values("expected", ascending=False, ignore_index=True)


def pareto(scores: Any, costs: Any) -> NDArray[np.bool_]:
    """Whether no other has more for no more."""
    scores, costs = np.asarray(scores, float), np.asarray(costs, float)
    return np.array([not ((scores > s) & (costs <= c)).any() for s, c in zip(scores, costs, strict=True)], bool)


def confused(confusion: pd.DataFrame) -> pd.DataFrame:
    """true, predicted, images, share (of the true class), low, high: what is taken for what, most often first.

    `confusion` counts images by true class (index) and predicted class. The interval is Wilson's.
    """
    rows = []
    for name, row in confusion.iterrows():
        for other, count in row.items():
            if other != name and count:
                share, total = count / row.sum(), int(row.sum())
                low, high = wilson(share, total)
                found = {"true": name, "predicted": other, "images": int(count), "share": share}
                rows.append(found | {"low": low, "high": high})
    found = pd.DataFrame(rows, columns=["true", "predicted", "images", "share", "low", "high"])
    return found.sort_values(["share", "images"], ascending=False, ignore_index=True)


def improvement(a: Any, b: Any, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """probability, low, high: that a trial of `a` scores above one of `b`, a tie counting half.

    Mann and Whitney's U over all pairs, with a stratified bootstrap interval (Agarwal et al. 2021, rliable).
    """
    a, b, random = np.asarray(a, float), np.asarray(b, float), np.random.default_rng(seed)
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    rows = random.integers(len(a), size=(resamples, len(a)))
    columns = random.integers(len(b), size=(resamples, len(b)))
    drawn = np.array([wins[np.ix_(r, c)].mean() for r, c in zip(rows, columns, strict=True)])
    low, high = interval(drawn)
    return pd.DataFrame([{"probability": wins.mean(), "low": low, "high": high}])

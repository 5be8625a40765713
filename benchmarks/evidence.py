"""Whether the statistics are right: simulated searches of which the truth is known.

python -m benchmarks evidence

A study has 50 trials (half of the studies by TPE, half at random; half of each pruned by percentile) of an accuracy
that depends on lr, momentum and weight decay, and not on a fourth hyperparameter. It falls with the square of the
distance from an optimum that lies well inside the range or beyond one of its ends: from there to an end of the range by
some 20, 7 and 2 points. Each value carries 0.37 points of noise.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from scipy.stats import norm

from analysis.frames import of_study
from analysis.statistics.boundaries import boundaries
from analysis.statistics.curse import winners_curse
from analysis.statistics.importance import importance
from analysis.statistics.model import surrogate_of
from analysis.statistics.noise import noise_floor
from analysis.statistics.ranking import top_trials
from analysis.statistics.recipes import improvement
from analysis.statistics.tunability import tunability
from benchmarks.common import save
from cifar.intervals import interval, mean_interval, wilson

Array = NDArray[np.float64]
SPACE = {
    "lr": FloatDistribution(1e-3, 0.3, log=True),
    "momentum": FloatDistribution(0.5, 0.99),
    "weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
    "nothing": FloatDistribution(0, 1),
}
NOISE, EPOCHS, TRIALS = 0.0037, 10, 50
FALL = {"lr": (0.3, 0.8), "momentum": (0.1, 0.3), "weight_decay": (0.05, 0.1), "nothing": (0.0, 0.0)}
"""How far the accuracy falls, at least and at most, from the optimum to a place a whole range away."""


@dataclass(frozen=True)
class Truth:
    """The optimum and the fall of each hyperparameter, places in units of the range."""

    optimum: Array
    fall: Array

    def __call__(self, places: Array) -> Array:
        return 0.93 - np.square(places - self.optimum) @ self.fall

    def importance(self) -> Array:
        """Shares of the variance over the whole space; of a sum of functions of one variable each, those of each."""
        grid = np.linspace(0, 1, 1001)[:, None]
        variances = self.fall**2 * np.square(grid - self.optimum).var(0)
        return variances / variances.sum()


def drawn(random: np.random.Generator) -> Truth:
    """A truth whose optimum lies beyond an end of lr's range in half of all cases, of the other ranges in a quarter."""
    inside = random.uniform(0.3, 0.7, len(SPACE))
    beyond = random.choice([-1, 1], len(SPACE)) * random.uniform(0.7, 1.0, len(SPACE)) + 0.5
    edge = random.random(len(SPACE)) < [0.5, 0.25, 0.25, 0]
    fall = np.array([random.uniform(*FALL[key]) for key in SPACE])
    return Truth(np.where(edge, beyond, inside), fall)


def place(params: dict[str, Any]) -> Array:
    """Hyperparameters in units of their ranges."""
    places = []
    for key, d in SPACE.items():
        scale: Callable[[float], float] = np.log if d.log else float
        places.append((scale(params[key]) - scale(d.low)) / (scale(d.high) - scale(d.low)))
    return np.array(places)


def searched(truth: Truth, random: np.random.Generator, tpe: bool, pruned: bool) -> optuna.Study:
    """A search that sees the truth through learning curves with noise that lasts from epoch to epoch."""
    seed = int(random.integers(2**31))
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)
    if tpe:
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    pruner = optuna.pruners.PercentilePruner(25.0, n_startup_trials=5) if pruned else optuna.pruners.NopPruner()
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)

    def objective(trial: optuna.Trial) -> float:
        params = {key: trial.suggest_float(key, d.low, d.high, log=d.log) for key, d in SPACE.items()}
        final = truth(place(params))
        of_trial = random.normal()
        rate = random.uniform(2, 3)
        for epoch in range(1, EPOCHS + 1):
            noise = NOISE * (np.sqrt(0.7) * of_trial + np.sqrt(0.3) * random.normal())
            score = float(final - 0.4 * np.exp(-epoch / rate) + 0.4 * np.exp(-EPOCHS / rate) + noise)
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study.optimize(objective, n_trials=TRIALS)
    return study


def simulated(seed: int) -> dict[str, Any]:
    """What the statistics say of one study, beside the truth."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    random = np.random.default_rng(seed)
    truth = drawn(random)
    tpe = seed % 2 == 0
    pruned = seed % 4 < 2
    study = searched(truth, random, tpe, pruned)
    frames = of_study(study)
    trials = frames.trials
    space = frames.spaces
    surrogate = surrogate_of(trials, space, curves(study))
    shares = importance(trials, space, surrogate).set_index("hyperparameter")
    top = top_trials(trials, space, surrogate)
    true = truth(np.array([place(study.trials[number].params) for number in top.number]))
    return {
        "search": f"{'TPE' if tpe else 'random'}{', pruned' if pruned else ''}",
        "complete": int(trials.score.notna().sum()),
        **the_best(top, true),
        **the_edges(boundaries(trials, space, surrogate), truth),
        **the_important(shares, truth),
        "useless called so": shares.verdict["nothing"] != "matters",
        "covered": the_important_covered(shares, truth)
        | {"noise of a search": within(NOISE, *interval(surrogate.noise))}
        | tuned(tunability(space, surrogate), truth)
        | {"the winner's true score": within(true[0], top.low[0], top.high[0])}
        | by_formula(random),
    }


def within(value: Any, low: Any, high: Any) -> bool:
    return bool(low <= value <= high)


def curves(study: optuna.Study) -> pd.DataFrame:
    """The reported scores, as surrogate_of takes them: number, step, score."""
    rows = [(t.number, step, score) for t in study.trials for step, score in t.intermediate_values.items()]
    return pd.DataFrame(rows, columns=["number", "step", "score"])


def the_best(top: pd.DataFrame, true: Array) -> dict[str, Any]:
    """How much too high the winner's report is and is said to be, and whether the truly best trial is a tie."""
    curse = winners_curse(top).iloc[0]
    best = int(true.argmax())
    return {
        "reported too high": curse.reported - true[0],
        "said too high": curse.curse,
        "winner is the best": best == 0,
        "the best is tied": bool(top.tied[best]),
    }


def the_edges(ends: pd.DataFrame, truth: Truth) -> dict[str, list[str]]:
    """The verdict on each side of what matters, by whether the optimum lies beyond it."""
    verdicts: dict[str, list[str]] = {"edge": [], "inside": []}
    for row in ends[ends.hyperparameter != "nothing"].itertuples():
        optimum = truth.optimum[list(SPACE).index(str(row.hyperparameter))]
        beyond = optimum < 0 if row.side == "low" else optimum > 1
        verdicts["edge" if beyond else "inside"].append(str(row.verdict))
    return verdicts


RANKINGS = ("importance", "fanova", "ped_anova")


def the_important(shares: pd.DataFrame, truth: Truth) -> dict[str, list[bool]]:
    """Whether pairs whose true shares differ by a factor of three or more are in the right order, by each ranking."""
    true = dict(zip(SPACE, truth.importance(), strict=True))
    pairs = [(a, b) for a in SPACE for b in SPACE if true[a] > 3 * true[b] > 0]
    orders: dict[str, list[bool]] = {}
    for how in RANKINGS:
        orders[how] = [bool(shares[how][a] > shares[how][b]) for a, b in pairs]
    return orders


def the_important_covered(shares: pd.DataFrame, truth: Truth) -> dict[str, bool]:
    """Whether the intervals of the shares that are not 0 cover these; the verdict covers the share that is 0."""
    true = zip(SPACE, truth.importance(), strict=True)
    return {f"share of {key}": within(share, shares.low[key], shares.high[key]) for key, share in true if share}


def tuned(gains: pd.DataFrame, truth: Truth) -> dict[str, bool]:
    """Whether the gain of setting each, from the middle of its range, to its estimated best is covered."""
    estimated = gains.set_index("hyperparameter")
    chosen = place(estimated.value.to_dict())
    true = truth.fall * (np.square(0.5 - truth.optimum) - np.square(chosen - truth.optimum))
    covered = {}
    for key, gain in zip(SPACE, true, strict=True):
        covered[f"gain by {key}"] = within(gain, estimated.low[key], estimated.high[key])
    return covered


def by_formula(random: np.random.Generator) -> dict[str, bool]:
    """Coverage of the intervals that need no search: seeds, images, noise floor, probability of improvement."""
    fresh = pd.DataFrame({"group": np.repeat([1, 2, 3], 5), "score": NOISE * random.normal(size=15)})
    floor = noise_floor(fresh).iloc[0]
    _, low, high = mean_interval(fresh.score[:5])
    a = random.normal(0.5, 1, 20)
    b = random.normal(0, 1, 20)
    better = improvement(a, b, resamples=500).iloc[0]
    return {
        "mean over 5 seeds": within(0, low, high),
        "accuracy on 5000 images": within(0.9, *wilson(random.binomial(5000, 0.9) / 5000, 5000)),
        "noise floor of 3 times 5 seeds": within(NOISE, floor.low, floor.high),
        "probability of improvement": within(norm.cdf(0.5 / np.sqrt(2)), better.low, better.high),
    }


def summary(studies: pd.DataFrame) -> dict[str, Any]:
    """Rates over studies."""
    rates: dict[str, Any] = {"studies": len(studies), "complete trials": studies.complete.mean()}
    for side in ("edge", "inside"):
        rates[f"verdicts where it is {side}"] = studies[side].explode().value_counts(normalize=True).to_dict()
    rates |= {f"order right by {how}": float(studies[how].explode().mean()) for how in RANKINGS}
    for column in ("useless called so", "winner is the best", "the best is tied", "reported too high", "said too high"):
        rates[column] = float(studies[column].mean())
    return rates | {"covered": pd.DataFrame(list(studies.covered)).mean().to_dict()}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks evidence", description=__doc__)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args(argv)
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # for the processes that start below
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        studies = pd.DataFrame(list(pool.map(simulated, range(options.studies), chunksize=4)))
    rates = summary(studies)
    what = f"{options.studies} simulated searches of {TRIALS} trials with known truth, noise {100 * NOISE:.2f} points"
    by_search = {str(search): summary(group) for search, group in studies.groupby("search")}
    result = {"what": what, "figure": figure(rates), "all": rates, "by search": by_search}
    save("evidence", "python -m benchmarks evidence", result)


def figure(rates: dict[str, Any]) -> str:
    edge = rates["verdicts where it is edge"]
    inside = rates["verdicts where it is inside"]
    order = {how: rates[f"order right by {how}"] for how in RANKINGS}
    covered = rates["covered"]
    least = min(covered, key=covered.__getitem__)
    most = max(covered, key=covered.__getitem__)
    return (
        f"verdicts on the ends of ranges: {edge.get('edge', 0):.1%} right where the best lies beyond,"
        f" {inside.get('inside', 0):.1%} where it lies inside ({inside.get('edge', 0):.1%} wrong, the others open);"
        f" the winner reports {100 * rates['reported too high']:.2f} points too much, and that is estimated as"
        f" {100 * rates['said too high']:.2f}; importance in the right order: {order['importance']:.1%} (Optuna's"
        f" fANOVA {order['fanova']:.1%}, PED-ANOVA {order['ped_anova']:.1%}); the useless hyperparameter called so:"
        f" {rates['useless called so']:.1%}; 95% intervals cover from {covered[least]:.1%} ({least}) to"
        f" {covered[most]:.1%} ({most})"
    )

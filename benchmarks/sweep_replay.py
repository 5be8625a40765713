"""Samplers and pruners compared on a recorded pool of learning curves: best accuracy and share of the epochs.

python -m benchmarks sweep_replay        # after sweep_record

A trial's curve is that of the recorded setting nearest to its own, each range scaled to [0, 1] (logarithms where the
search takes them). `best` is the best accuracy of any epoch of any trial that ran to its end.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, json_to_distribution

from benchmarks.common import save
from benchmarks.sweep_record import POOL
from cifar.sweep.optuna_private import suggest

PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
    "none": lambda epochs: optuna.pruners.NopPruner(),
    "median": lambda epochs: optuna.pruners.MedianPruner(n_startup_trials=5),
    "percentile": lambda epochs: optuna.pruners.PercentilePruner(25.0, n_startup_trials=5),
    "successive_halving": lambda epochs: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "hyperband": lambda epochs: optuna.pruners.HyperbandPruner(1, epochs, 3),
    "patient": lambda epochs: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(), patience=2),
}
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
}


class Pool:
    """Recorded curves, looked up by the nearest setting."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text("utf-8"))
        self.distributions = {key: json_to_distribution(d) for key, d in document["distributions"].items()}
        self.curves: list[list[float]] = [curve["accuracy"] for curve in document["curves"]]
        self.points = [self._place(curve["params"]) for curve in document["curves"]]
        self.epochs = max(map(len, self.curves))

    def _place(self, params: dict[str, Any]) -> list[float]:
        return [scaled(distribution, params[key]) for key, distribution in self.distributions.items()]

    def curve(self, params: dict[str, Any]) -> list[float]:
        place = self._place(params)
        return min(zip(self.points, self.curves, strict=True), key=lambda other: math.dist(place, other[0]))[1]


def scaled(distribution: BaseDistribution, value: Any) -> float:
    """A value's place in its range, from 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1)
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    scale = math.log if distribution.log else float  # type: ignore[attr-defined]
    return (scale(value) - scale(low)) / (scale(high) - scale(low))


def replay(pool: Pool, sampler: str, pruner: str, seed: int, trials: int) -> tuple[float, float]:
    """The best accuracy that a search finds, and the share of all its epochs that it trains."""
    study = optuna.create_study(
        direction="maximize", sampler=SAMPLERS[sampler](seed), pruner=PRUNERS[pruner](pool.epochs)
    )
    trained = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal trained
        params = {key: suggest(trial, key, distribution) for key, distribution in pool.distributions.items()}
        curve = pool.curve(params)
        for epoch, accuracy in enumerate(curve, start=1):
            trained += 1
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return max(curve) if len(curve) == pool.epochs else math.nan  # a curve cut short diverged

    study.optimize(objective, n_trials=trials)
    return study.best_value, trained / (trials * pool.epochs)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep_replay", description=__doc__)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trials", type=int, default=30, help="of each search")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    options = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    pool = Pool(options.pool)
    rows = {}
    for sampler in options.samplers:
        for pruner in PRUNERS:
            runs = [replay(pool, sampler, pruner, seed, options.trials) for seed in range(options.seeds)]
            rows[f"{sampler} {pruner}"] = summary(runs)
            print(f"{sampler:<8} {pruner:<20}", rows[f"{sampler} {pruner}"], flush=True)
    what = f"{options.trials} trials, {options.seeds} seeds, {len(pool.curves)} recorded curves of {pool.epochs} epochs"
    full, pruned = rows["tpe none"], rows["tpe percentile"]
    figure = (
        f"{pruned['best']:.3f} for {pruned['epochs']:.0%} of the epochs, against {full['best']:.3f} without pruning"
    )
    result = {"what": f"TPE and percentile: {what}", "figure": figure, "searches": rows}
    save("sweep-replay", "python -m benchmarks sweep_replay", result)


def summary(runs: list[tuple[float, float]]) -> dict[str, float]:
    """Mean best accuracy with its standard error, and mean share of the epochs."""
    best = [run[0] for run in runs]
    error = statistics.stdev(best) / math.sqrt(len(best)) if len(best) > 1 else math.nan
    return {"best": statistics.mean(best), "error": error, "epochs": statistics.mean(run[1] for run in runs)}

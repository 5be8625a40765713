"""The score as a function of the hyperparameters, with its noise: a Gaussian process, wholly Bayesian.

A search's values cannot be taken at their word: each holds noise, the best was chosen for having the most of it, and
pruned trials were stopped for having had too little. A model of all trials at once corrects for that, because what
decided on a trial's end (what it had reported) is in the data that the model is given (Rubin 1976, Inference and
missing data). Kernel, noise and length scales are integrated over by Metropolis steps instead of fitted: their best
fit explains noise as structure when there are 20 trials (Rasmussen and Williams 2006, chapter 5; Snoek et al. 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]
LARGEST = 200
"""Trials that are modelled; of more the best. The time grows with the square of their number."""
STEPS, KEPT, EACH = 2400, 100, 8
"""Metropolis steps, the settings kept of them, and the functions drawn from each."""
SCALE = (0.5, 0.7)
"""Mean and s.d. of the logarithm of a length scale, in units of the range: surfaces bend about once or not at all."""
CONSTANT = 9.0
"""Variance of the function's mean, in units of the variance about it."""


on_one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
"""Matrices of 200 trials are too small to share: where others use the cores too, more threads are ten times slower."""


@dataclass(frozen=True)
class Noise:
    """What is known beforehand of the noise of one score: its s.d., and the s.d. of that's logarithm."""

    sd: float
    spread: float = 0.5


def unit(trials: pd.DataFrame, space: pd.DataFrame) -> pd.DataFrame:
    """The trials' hyperparameters in [0, 1], columns by hyperparameter; of a choice of names a column for each.

    Numbers are scaled from the smallest to the largest of their range, by their logarithm where the search does so.
    Chosen numbers take equal steps.
    """
    found: dict[str, pd.Series[float]] = {}
    for row in space.itertuples():
        values, names = trials[f"params.{row.hyperparameter}"], columns(row)
        if len(names) > 1:
            chosen = values.map(lambda value, row=row: _chosen(value, row.choices))
            found |= {name: (chosen == number).astype(float) for number, name in enumerate(names)}
        elif row.kind == "choice":
            order = row.choices if np.isnan(row.low) else sorted(row.choices)
            found[names[0]] = values.map(lambda v, order=order: _chosen(v, order)) / max(1, len(order) - 1)
        else:
            found[names[0]] = scaled(values.astype(float), row)
    return pd.DataFrame(found, index=trials.index, dtype=float)


def _chosen(value: Any, choices: Sequence[Any]) -> int:
    """Which of the choices it is; a frame keeps None beside numbers as NaN."""
    return choices.index(None if value != value else value)


def columns(row: Any) -> list[str]:
    """The columns of a hyperparameter, a row of a space, in unit()."""
    several = row.kind == "choice" and len(row.choices) > 2 and np.isnan(row.low)
    return [f"{row.hyperparameter}={choice}" for choice in row.choices] if several else [row.hyperparameter]


def scaled(values: Any, row: Any) -> Any:
    """Values of a range as places in [0, 1]."""
    scale = np.log if row.log else np.asarray
    low, high = scale(row.low), scale(row.high)
    return (scale(values) - low) / (high - low) if high > low else values * 0.0


def unscaled(places: Any, row: Any) -> Any:
    """Places in [0, 1], or beyond, as values of a range."""
    low, high = (np.log([row.low, row.high])) if row.log else (row.low, row.high)
    values = low + np.asarray(places) * (high - low)
    return np.exp(values) if row.log else values


def observations(trials: pd.DataFrame, curves: dict[int, dict[int, float]]) -> pd.DataFrame:
    """score, extra (s.d. of what is added to its noise) of the complete trials, and of pruned ones as they might end.

    A pruned trial is taken to gain from its last epoch what the complete ones gained on average. `curves` holds the
    reported scores by trial and epoch.
    """
    complete = trials[trials.score.notna()]
    found = complete[["score"]].assign(extra=0.0)
    for number, trial in trials[trials.outcome == "pruned"].iterrows():
        step = trial.last_step
        gains = [row.score - curves[row.number][step] for row in complete.itertuples() if step in curves[row.number]]
        if len(gains) >= 3 and np.isfinite(trial.last_score):
            found.loc[number] = [trial.last_score + np.mean(gains), np.std(gains, ddof=1)]
    return found


class Surrogate:
    """Draws of the true score at any place. `draws` functions, each of a length that is `len` of the places.

    score and extra are of n trials, places (n, d) in [0, 1]. `columns` names the d.
    """

    def __init__(self, places: pd.DataFrame, score: Array, extra: Array, noise: Noise, seed: int = 0) -> None:
        keep = np.argsort(-score, kind="stable")[:LARGEST]
        self.columns = list(places.columns)
        self.places: Array = places.to_numpy(float)[keep]
        self.middle = float(np.median(score))
        self.score, self.seed = score[keep] - self.middle, seed
        pruned, complete = extra[keep] > 0, max(1, int((extra == 0).sum()))
        shared = extra[keep].mean() / max(pruned.mean(), 1e-9) / np.sqrt(complete)  # the mean gain's own error
        self.known = np.diag(extra[keep] ** 2 + 1e-10) + np.outer(pruned, pruned) * shared**2
        d = places.shape[1]
        self.prior = np.r_[np.log(max(score.std(), noise.sd)), np.full(d, SCALE[0]), np.log(noise.sd)]
        self.spread = np.r_[1.0, np.full(d, SCALE[1]), noise.spread]
        self.distances = np.square(self.places[:, None] - self.places[None]).transpose(2, 0, 1)

    @cached_property
    @on_one_thread
    def settings(self) -> Array:
        """(KEPT, d + 2) draws of log amplitude, log length scales and log noise."""
        mode = minimize(lambda t: -self._posterior(t), self.prior, method="BFGS", options={"maxiter": 60}).x
        return self._walk(mode, self._steps(mode))

    def _steps(self, mode: Array) -> Array:
        """The shape of a good proposal: the posterior's curvature at its mode, by differences."""
        size, eye = 0.2, np.eye(len(mode)) * 0.2
        at = self._posterior(mode)
        curvature = [
            max(-(self._posterior(mode + e) + self._posterior(mode - e) - 2 * at) / size**2, 1e-3) for e in eye
        ]
        return np.minimum(1 / np.sqrt(curvature), self.spread) * 2.38 / np.sqrt(len(mode))

    def _walk(self, at: Array, steps: Array) -> Array:
        """Random-walk Metropolis; every STEPS / KEPT-th place."""
        random = np.random.default_rng(self.seed)
        density, kept = self._posterior(at), []
        for step in range(STEPS):
            there = at + steps * random.normal(size=len(at)) * random.choice([0.5, 1.0])
            proposed = self._posterior(there)
            if np.log(random.random()) < proposed - density:
                at, density = there, proposed
            if step % (STEPS // KEPT) == STEPS // KEPT - 1:
                kept.append(at)
        return np.array(kept)

    def _posterior(self, settings: Array) -> float:
        """Log density of the settings, up to a constant."""
        amplitude, scales, noise = np.exp(2 * settings[0]), np.exp(settings[1:-1]), np.exp(2 * settings[-1])
        kernel = amplitude * (np.exp(-0.5 * np.tensordot(scales**-2, self.distances, 1)) + CONSTANT) + self.known
        kernel.flat[:: len(kernel) + 1] += noise
        try:
            factor = cho_factor(kernel, lower=True, check_finite=False)
        except LinAlgError:
            return -np.inf
        fit = -0.5 * self.score @ cho_solve(factor, self.score, check_finite=False) - np.log(factor[0].diagonal()).sum()
        return float(fit - 0.5 * np.square((settings - self.prior) / self.spread).sum())

    @property
    def noise(self) -> Array:
        """Draws of the s.d. of one score's noise."""
        return np.exp(self.settings[:, -1])

    @cached_property
    @on_one_thread
    def factors(self) -> list[Any]:
        """Of each of the settings, the Cholesky factor of the trials' covariance, with their noise."""
        found = []
        for settings in self.settings:
            amplitude, scales = np.exp(2 * settings[0]), np.exp(settings[1:-1])
            own = amplitude * (np.exp(-0.5 * np.tensordot(scales**-2, self.distances, 1)) + CONSTANT) + self.known
            own.flat[:: len(own) + 1] += np.exp(2 * settings[-1])
            found.append(cho_factor(own, lower=True, check_finite=False))
        return found

    @on_one_thread
    def mean(self, places: Array) -> Array:
        """(p,) means of the draws at `places` (p, d) or over `places` (p, m, d), at no cost of their covariances."""
        flat, p, m = _flat(places)
        pairs = zip(self.settings, self.factors, strict=True)
        found = [_means(self._cross(flat, s), p, m) @ cho_solve(factor, self.score) for s, factor in pairs]
        return self.middle + np.mean(found, axis=0)

    @on_one_thread
    def draw(self, places: Array) -> Array:
        """(p, KEPT * EACH) draws of the true score at `places` (p, d), or of its means over `places` (p, m, d)."""
        (flat, p, m), random = _flat(places), np.random.default_rng(self.seed)
        drawn = []
        for settings, factor in zip(self.settings, self.factors, strict=True):
            amplitude, scales = np.exp(2 * settings[0]), np.exp(settings[1:-1])
            cross = _means(self._cross(flat, settings), p, m)
            among = _means(_means(amplitude * (_rbf(flat, flat, scales) + CONSTANT), p, m).T, p, m)
            spread = among - cross @ cho_solve(factor, cross.T)
            sizes, directions = np.linalg.eigh((spread + spread.T) / 2)
            root = directions * np.sqrt(np.maximum(sizes, 0))
            drawn.append((cross @ cho_solve(factor, self.score))[:, None] + root @ random.normal(size=(p, EACH)))
        return self.middle + np.hstack(drawn)

    def _cross(self, flat: Array, settings: Array) -> Array:
        """Covariances of the places and the trials."""
        return np.exp(2 * settings[0]) * (_rbf(flat, self.places, np.exp(settings[1:-1])) + CONSTANT)


def _flat(places: Array) -> tuple[Array, int, int]:
    """(p * m, d) places, p and m."""
    places = places[:, None] if places.ndim == 2 else places
    p, m, d = places.shape
    return places.reshape(p * m, d), p, m


def _rbf(a: Array, b: Array, scales: Array) -> Array:
    a, b = a / scales, b / scales
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.exp(-0.5 * np.maximum(squares, 0))


def _means(rows: Array, p: int, m: int) -> Array:
    """The means of each m rows in turn."""
    return rows.reshape(p, m, -1).mean(1)

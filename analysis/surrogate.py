"""The score as a function of the hyperparameters, with its noise: a fully Bayesian Gaussian process.

The values of a search cannot be taken as they are: each holds noise, the best was chosen for having the most of it, and
pruned trials were stopped for having had too little. A model of all trials at once corrects for that, because what
decided on a trial's end (what it had reported) is in the data that the model learns from (Rubin 1976, Inference and
missing data). Kernel, noise and length scales are integrated over by Metropolis steps instead of fitted: their best
fit explains noise as structure when there are 20 trials (Rasmussen and Williams 2006, chapter 5; Snoek et al. 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])
STEPS = 2400
"""Metropolis steps."""
KEPT = 100
"""Settings kept of the steps."""
EACH = 8
"""Functions drawn from each of the settings."""
SCALE = (0.5, 0.7)
"""Mean and s.d. of the logarithm of a length scale, in units of the range: surfaces bend about once or not at all."""
CONSTANT = 9.0
"""Variance of the function's mean, in units of the variance about it."""


on_one_thread: Callable[[Function], Function] = threadpool_limits.wrap(limits=1, user_api="blas")
"""Matrices of 200 trials are too small to share: where others use the cores too, more threads are ten times slower."""


@dataclass(frozen=True)
class Noise:
    """What is known beforehand of the noise of one score: its s.d., and the s.d. of the logarithm of that."""

    sd: float
    spread: float = 0.5


def observations(trials: pd.DataFrame, curves: Mapping[int, Mapping[int, float]]) -> pd.DataFrame:
    """score and extra (the s.d. that is added to its noise): of complete trials, and of pruned ones as they might end.

    A pruned trial is expected to gain, from its last epoch on, what the complete trials gained on average. `curves`
    holds the reported scores by trial and epoch.
    """
    complete = trials[trials.score.notna()]
    observed = complete[["score"]].assign(extra=0.0)
    for index, trial in trials[trials.outcome == "pruned"].iterrows():
        gains = _gains(complete, curves, trial.last_step)
        if len(gains) >= 3 and np.isfinite(trial.last_score):
            observed.loc[index] = [trial.last_score + np.mean(gains), np.std(gains, ddof=1)]
    return observed


def _gains(complete: pd.DataFrame, curves: Mapping[int, Mapping[int, float]], step: int) -> list[float]:
    """What each of the complete trials that reported at an epoch gained from there to its end."""
    reported = [trial for trial in complete.itertuples() if step in curves[trial.number]]
    return [trial.score - curves[trial.number][step] for trial in reported]


class Surrogate:
    """Draws of the true score at any place.

    Learns from n trials: `places` (n, d) in [0, 1], score (n,) and extra (n,). `columns` names the d; `groups` are the
    numbers of their g length scales, by default one for each.
    """

    def __init__(
        self,
        places: pd.DataFrame,
        score: Array,
        extra: Array,
        noise: Noise,
        groups: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.columns = list(places.columns)
        self.places: Array = places.to_numpy(float)
        self.middle = float(np.median(score))
        self.score = score - self.middle
        self.seed = seed
        pruned = extra > 0
        complete = max(1, int((extra == 0).sum()))
        shared = extra.mean() / max(pruned.mean(), 1e-9) / np.sqrt(complete)  # the error of the mean gain
        jitter = 1e-10 * max(1.0, float(score.var()))
        self.known = np.diag(extra**2 + jitter) + np.outer(pruned, pruned) * shared**2
        self.groups = np.array(range(places.shape[1]) if groups is None else groups, int)
        g = int(self.groups.max(initial=-1)) + 1
        self.prior = np.r_[np.log(max(score.std(), noise.sd)), np.full(g, SCALE[0]), np.log(noise.sd)]
        self.spread = np.r_[1.0, np.full(g, SCALE[1]), noise.spread]
        squares = np.square(self.places[:, None] - self.places[None]).transpose(2, 0, 1)
        self.distances = np.array([squares[self.groups == group].sum(0) for group in range(g)])

    @cached_property
    @on_one_thread
    def settings(self) -> Array:
        """(KEPT, g + 2) draws of log amplitude, log length scales and log noise."""
        with np.errstate(invalid="ignore", over="ignore"):  # where the density is 0, far off
            mode = minimize(lambda t: -self._posterior(t), self.prior, method="BFGS", options={"maxiter": 60}).x
            if not np.isfinite(self._posterior(mode)):
                mode = self.prior
            return self._walk(mode, self._steps(mode))

    def _steps(self, mode: Array) -> Array:
        """The shape of a good proposal: the posterior's curvature at its mode, by differences."""
        size = 0.2
        at_mode = self._posterior(mode)
        curvature = []
        for shift in np.eye(len(mode)) * size:
            difference = self._posterior(mode + shift) + self._posterior(mode - shift) - 2 * at_mode
            curvature.append(max(-difference / size**2, 1e-3))
        steps: Array = np.minimum(1 / np.sqrt(curvature), self.spread) * 2.38 / np.sqrt(len(mode))
        return steps

    def _walk(self, start: Array, steps: Array) -> Array:
        """Random-walk Metropolis; keeps every STEPS / KEPT-th place."""
        random = np.random.default_rng(self.seed)
        place = start
        density = self._posterior(place)
        kept = []
        for step in range(STEPS):
            proposal = place + steps * random.normal(size=len(place)) * random.choice([0.5, 1.0])
            proposed = self._posterior(proposal)
            if np.log(random.random()) < proposed - density:
                place = proposal
                density = proposed
            if step % (STEPS // KEPT) == STEPS // KEPT - 1:
                kept.append(place)
        return np.array(kept)

    def _covariance(self, settings: Array) -> Array:
        """(n, n) of the trials' scores, with their noise."""
        amplitude = np.exp(2 * settings[0])
        scales = np.exp(settings[1:-1])
        kernel = np.exp(-0.5 * np.tensordot(scales**-2, self.distances, 1))
        covariance: Array = amplitude * (kernel + CONSTANT) + self.known
        covariance.flat[:: len(covariance) + 1] += np.exp(2 * settings[-1])
        return covariance

    def _posterior(self, settings: Array) -> float:
        """Log density of the settings, up to a constant."""
        try:
            factor = cho_factor(self._covariance(settings), lower=True, check_finite=False)
        except LinAlgError:
            return -np.inf
        fit = -0.5 * self.score @ cho_solve(factor, self.score, check_finite=False) - np.log(factor[0].diagonal()).sum()
        return float(fit - 0.5 * np.square((settings - self.prior) / self.spread).sum())

    @property
    def noise(self) -> Array:
        """(KEPT,) draws of the s.d. of one score's noise."""
        noise: Array = np.exp(self.settings[:, -1])
        return noise

    @cached_property
    @on_one_thread
    def factors(self) -> list[Any]:
        """For each of the settings, the Cholesky factor of the trials' covariance."""
        return [cho_factor(self._covariance(each), lower=True, check_finite=False) for each in self.settings]

    @on_one_thread
    def mean(self, places: Array) -> Array:
        """(p,) means of the draws at `places` (p, d) or over `places` (p, m, d), without computing covariances."""
        flat, p, m = _flattened(places)
        means = []
        for settings, factor in zip(self.settings, self.factors, strict=True):
            means.append(_means(self._cross(flat, settings), p, m) @ cho_solve(factor, self.score))
        overall: Array = self.middle + np.mean(means, axis=0)
        return overall

    @on_one_thread
    def draw(self, places: Array) -> Array:
        """(p, KEPT * EACH) draws of the true score at `places` (p, d), or of its means over `places` (p, m, d)."""
        flat, p, m = _flattened(places)
        random = np.random.default_rng(self.seed)
        drawn = []
        for settings, factor in zip(self.settings, self.factors, strict=True):
            amplitude = np.exp(2 * settings[0])
            scales = np.exp(settings[1:-1])[self.groups]
            cross = _means(self._cross(flat, settings), p, m)
            among = _means(_means(amplitude * (_rbf(flat, flat, scales) + CONSTANT), p, m).T, p, m)
            spread = among - cross @ cho_solve(factor, cross.T)
            sizes, directions = np.linalg.eigh((spread + spread.T) / 2)
            root = directions * np.sqrt(np.maximum(sizes, 0))
            drawn.append((cross @ cho_solve(factor, self.score))[:, None] + root @ random.normal(size=(p, EACH)))
        return self.middle + np.hstack(drawn)

    def _cross(self, flat: Array, settings: Array) -> Array:
        """Covariances of the places and the trials."""
        scales = np.exp(settings[1:-1])[self.groups]
        cross: Array = np.exp(2 * settings[0]) * (_rbf(flat, self.places, scales) + CONSTANT)
        return cross


def _flattened(places: Array) -> tuple[Array, int, int]:
    """(p * m, d) places, p and m; m is 1 for places (p, d)."""
    places = places[:, None] if places.ndim == 2 else places
    p, m, d = places.shape
    return places.reshape(p * m, d), p, m


def _rbf(a: Array, b: Array, scales: Array) -> Array:
    """(len(a), len(b)) of the squared exponential kernel."""
    a = a / scales
    b = b / scales
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    kernel: Array = np.exp(-0.5 * np.maximum(squares, 0))
    return kernel


def _means(rows: Array, p: int, m: int) -> Array:
    """(p, ...) the means of each m consecutive rows."""
    means: Array = rows.reshape(p, m, -1).mean(1)
    return means

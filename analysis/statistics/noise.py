"""The noise of scores: as expected before any is measured, and as measured between seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from cifar.intervals import LEVEL

from ..surrogate import Noise


def binomial_noise(accuracy: float, images: int) -> Noise:
    """The noise to expect of an accuracy measured on `images` images, before any is measured.

    Runs that differ in their seed alone differ about as if each had drawn its images anew (Jordan 2023, Calibrated
    chaos: variance between runs of neural network training is harmless and inevitable).
    """
    return Noise(max(float(np.sqrt(accuracy * (1 - accuracy) / images)), 1e-6))


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

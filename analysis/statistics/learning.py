"""How runs learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..surrogate import Array

DIVERGED_RATIO = 1.2
"""A training loss that ends above so many times its first value has diverged."""


def diagnosis(epochs: pd.DataFrame) -> pd.DataFrame:
    """run, best_epoch, improving, overfitting, diverged, lr_drops: how each run learned (Prechelt 1998).

    improving: the best epoch lies in the last tenth, and the last third gained more than the jitter of the score from
    epoch to epoch (of the accuracy, where `epochs` have no score). overfitting: the validation loss ends more than a
    tenth above its lowest while the training loss still falls. diverged: a loss that is no number, or ends far above
    its start. lr_drops: epochs whose learning rate is below 0.9 of the one before.
    """
    columns = ["run", "best_epoch", "improving", "overfitting", "diverged", "lr_drops"]
    return pd.DataFrame([_diagnose(run, rows) for run, rows in epochs.groupby("run", sort=False)], columns=columns)


def _diagnose(run: Any, rows: pd.DataFrame) -> dict[str, Any]:
    rows = rows.sort_values("epoch")
    scores = (rows.score if "score" in rows else rows.val_accuracy).to_numpy(float)
    train = rows.train_loss.to_numpy(float)
    val = rows.val_loss.to_numpy(float)
    lr = rows.lr.to_numpy(float)
    best = int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))
    return {
        "run": run,
        "best_epoch": int(rows.epoch.to_numpy(int)[best]),
        "improving": bool(best + 1 > 0.9 * len(rows) and _last_gain(scores) > _jitter(scores)),
        "overfitting": _overfits(train, val),
        "diverged": bool(not np.isfinite(train).all() or (len(train) > 1 and train[-1] > DIVERGED_RATIO * train[0])),
        "lr_drops": int((lr[1:] < 0.9 * lr[:-1]).sum()),
    }


def _overfits(train: Array, val: Array) -> bool:
    if not val[-1] > 1.1 * np.nanmin(val):
        return False
    return bool(train[-1] < train[int(np.nanargmin(val))])


def _last_gain(scores: Array) -> float:
    """What the last third of the epochs gained; 0 where there is no epoch before."""
    third = max(1, len(scores) // 3)
    if len(scores) <= third:
        return 0.0
    return float(scores[-third:].max() - scores[:-third].max())


def _jitter(scores: Array) -> float:
    """The s.d. of the scores about their trend, from its second differences; 0 where there are too few epochs."""
    if len(scores) <= 3:
        return 0.0
    return float(stats.median_abs_deviation(np.diff(scores, 2), scale="normal") / np.sqrt(6))

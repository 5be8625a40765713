"""How often trials fail, by their learning rate."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cifar.intervals import wilson

from .budget import ENDED


def failures(trials: pd.DataFrame, key: str) -> pd.DataFrame:
    """decade, trials, failed, share, low, high: for each power of ten of a learning rate, how many trials failed.

    Diverged trials count as failed. The interval is Wilson's.
    """
    rates = pd.to_numeric(trials[f"params.{key}"], errors="coerce")  # of another program: perhaps texts
    ended = trials[trials.outcome.isin(ENDED) & (rates > 0)]
    decades = np.floor(np.log10(rates[ended.index]) + 1e-9)
    rows = []
    for decade, in_decade in ended.groupby(decades):
        failed = int(in_decade.outcome.isin(["failed", "diverged"]).sum())
        share = failed / len(in_decade)
        low, high = wilson(share, len(in_decade))
        row = {"decade": 10.0**decade, "trials": len(in_decade), "failed": failed, "share": share}
        rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows, columns=["decade", "trials", "failed", "share", "low", "high"])

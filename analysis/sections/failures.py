"""The trials that failed and that no other trial retried, and at which learning rates most did."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import count_of, format_interval

from ..statistics import failures
from . import MAX_ROWS, Context, Section

ORDER = 130


def section(context: Context) -> Section | None:
    trials = context.frames.trials
    trials = trials[~trials.number.isin(trials.retry_of)]
    lost = trials[(trials.state == "FAIL") & ~trials.outcome.isin(["withdrawn", "replaced"])]
    if context.kind != "study" or lost.empty:
        return None
    were = "was" if len(lost) == 1 else "were"
    text = f"{count_of(len(lost), 'trial')} failed, diverged or {were} lost. {_worst_rates(trials)}".strip()
    rows = lost.head(MAX_ROWS)
    columns = {"trial": rows.number.astype(str), "outcome": rows.outcome, "reason": rows.reason, "folder": rows.run}
    return Section("Failed trials", text, table=pd.DataFrame(columns))


def _worst_rates(trials: pd.DataFrame) -> str:
    """The power of ten of the learning rate at which the largest share failed; empty where that is not known."""
    params = [str(column).removeprefix("params.") for column in trials.columns if str(column).startswith("params.")]
    rates = [name for name in params if name.rpartition(".")[2] == "lr"]
    if not rates:
        return ""
    decades = failures.failures(trials, rates[0])
    if decades.empty or decades.share.max() <= 0:
        return ""
    row = decades.nlargest(1, "share").iloc[0]
    interval = format_interval(row.low, row.high, ".0%")
    return (
        f"Most fail with a learning rate from {row.decade:g} to {10 * row.decade:g}:"
        f" {row.failed:.0f} of {row.trials:.0f} ({interval})."
    )

"""The best trials, with the estimate of each."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import as_whole, format_interval, format_value
from cifar.intervals import Limits, clipped

from ..evidence import Evidence
from . import MAX_ROWS, Context, Section

ORDER = 120


def section(context: Context) -> Section | None:
    evidence = context.modelled
    if not evidence:
        return None
    tied = int(evidence.top.tied.sum())  # the best itself is one of them
    text = "No other trial is statistically tied with the best."
    if tied > 1:
        best = "" if len(evidence.top) == evidence.trials.score.notna().sum() else "best "
        text = f"{tied} of the {len(evidence.top)} {best}complete trials, the best included, are statistically tied."
    return Section("The best trials", text, table=_table(evidence, context.frames.score_limits))


def _table(evidence: Evidence, limits: Limits) -> pd.DataFrame:
    top = evidence.top.head(MAX_ROWS)
    settings = evidence.trials.set_index("number").loc[top.number]
    columns = {
        "trial": top.number.astype(str),
        "reported": top.score.map("{:.4f}".format),
        "estimate": top.estimate.map("{:.4f}".format),
        "95% interval": [format_interval(*clipped(row.low, row.high, limits)) for row in top.itertuples()],
        "P(best)": top.best.map("{:.0%}".format),
    }
    for key in evidence.space.hyperparameter:
        columns[key] = [format_value(as_whole(value)) for value in settings[f"params.{key}"]]
    return pd.DataFrame(columns)

"""The trials of a confirmation as a table of texts, for the report and for model cards."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import format_interval
from cifar.intervals import clipped

from ..frames import Frames
from .curse import measured_curse


def candidates_table(frames: Frames) -> pd.DataFrame:
    """A row of texts for each trial that was trained on fresh seeds: values, not scores, with the interval of the mean.

    "too good by": what the search reported against the mean, positive also where smaller values are better.
    """
    trials = measured_curse(frames.fresh)
    sign = -1 if frames.minimizes else 1
    intervals = []
    for row in trials.itertuples():
        ends = clipped(row.reported - row.high, row.reported - row.low, frames.score_limits)
        low, high = ends if sign == 1 else (0.0 - ends[1], 0.0 - ends[0])
        intervals.append(format_interval(low, high))
    columns = {
        "trial": trials.number,
        "reported": (sign * trials.reported).map("{:.4f}".format),
        "on fresh seeds": (sign * trials.estimate).map("{:.4f}".format),
        "95% interval": intervals,
        "too good by": trials.curse.map("{:+.4f}".format),
        "seeds": trials.seeds,
    }
    return pd.DataFrame(columns).astype(str)

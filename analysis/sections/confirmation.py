"""The best trials, trained again on fresh seeds."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import format_interval
from cifar.intervals import clipped

from ..frames import Frames
from ..statistics.curse import measured_curse
from ..statistics.noise import noise_floor
from . import Context, Section

ORDER = 10


def section(context: Context) -> Section | None:
    fresh = context.frames.fresh
    if context.kind != "study" or fresh.empty:
        return None
    text = (
        "The best trials, trained again on fresh seeds. What they reported in the search tends to be too high, because"
        " they were chosen as the best of many noisy values."
    )
    for floor in noise_floor(fresh.rename(columns={"number": "group"})).itertuples():
        interval = format_interval(floor.low, floor.high)
        text += f" Runs that differ in their seed alone vary by {floor.sd:.4f} (s.d., {interval})."
    return Section("Confirmed on fresh seeds", text, table=_table(context.frames))


def _table(frames: Frames) -> pd.DataFrame:
    trials = measured_curse(frames.fresh)
    ends = [(row.reported - row.high, row.reported - row.low) for row in trials.itertuples()]
    intervals = [format_interval(*clipped(low, high, frames.score_limits)) for low, high in ends]
    columns = {
        "trial": trials.number,
        "reported": trials.reported.map("{:.4f}".format),
        "on fresh seeds": trials.estimate.map("{:.4f}".format),
        "95% interval": intervals,
        "too high by": trials.curse.map("{:+.4f}".format),
        "seeds": trials.seeds,
    }
    return pd.DataFrame(columns).astype(str)

"""The best trials, trained again on fresh seeds."""

from __future__ import annotations

from cifar.formatting import format_interval

from ..statistics.candidates import candidates_table
from ..statistics.noise import noise_floor
from . import Context, Section

ORDER = 10


def section(context: Context) -> Section | None:
    fresh = context.frames.fresh
    if context.kind != "study" or fresh.empty:
        return None
    text = (
        "The best trials, trained again on fresh seeds. What they reported in the search tends to be too good, because"
        " they were chosen as the best of many noisy values."
    )
    for floor in noise_floor(fresh.rename(columns={"number": "group"})).itertuples():
        interval = format_interval(floor.low, floor.high)
        text += f" Runs that differ in their seed alone vary by {floor.sd:.4f} (s.d., {interval})."
    return Section("Confirmed on fresh seeds", text, table=candidates_table(context.frames))

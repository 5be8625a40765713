"""All hyperparameters of all complete trials."""

from __future__ import annotations

from .. import figures
from . import Context, Section

ORDER = 60


def section(context: Context) -> Section | None:
    if not context.evidence or len(context.evidence.complete) < 2 or context.frames.spaces.empty:
        return None
    figure = figures.parallel(context.frames.trials, context.frames.spaces, context.score)
    text = "A line for each complete trial; the best are blue."
    return Section("All hyperparameters", text, {"parallel": figure})

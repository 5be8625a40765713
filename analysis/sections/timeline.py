"""The workers of a search over time."""

from __future__ import annotations

from cifar.formatting import count_of

from .. import figures
from . import Context, Section

ORDER = 110


def section(context: Context) -> Section | None:
    trials = context.frames.trials
    started = trials[trials.started.notna()]
    if context.kind != "study" or started.empty:
        return None
    workers = started.worker[started.worker != ""].nunique() or 1
    text = f"{count_of(len(started), 'trial')} on {count_of(workers, 'worker')}; in the gaps a worker was idle."
    return Section("Timeline of the workers", text, {"timeline": figures.timeline(started)})

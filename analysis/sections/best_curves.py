"""The learning curves of the best run of each place, compared."""

from __future__ import annotations

import pandas as pd

from .. import figures
from . import Context, Section, file_name

ORDER = 85


def section(context: Context) -> Section | None:
    if context.kind != "several":
        return None
    curves = []
    for rank, place in enumerate(context.places, 1):
        epochs = figures.curves(place.frames)
        curves.append(epochs[epochs["rank"] == 1].assign(name=place.name, rank=rank))
    epochs = pd.concat(curves, ignore_index=True)
    if epochs.empty:
        return None
    count = len(context.places)
    drawn = {f"best-{file_name(name)}": figures.learning(epochs, name, count) for name in figures.MEASURES}
    return Section("Learning and generalization of the best runs", "The best complete run of each.", drawn)

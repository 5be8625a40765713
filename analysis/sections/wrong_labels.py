"""Labels that may be wrong: of validation images that all fresh seeds predict to be the same other class."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import count_of
from cifar.objective import ACCURACY

from ..predictions import examples_of
from ..statistics.mistakes import alike_on_all_runs
from . import MAX_ROWS, Context, Picture, Pictures, Section
from .mistakes import fresh_runs, mistakes_by_seed

ORDER = 108
MAX_PICTURES = 24


def section(context: Context) -> Section | None:
    alike = alike_on_all_runs(mistakes_by_seed(context))
    if alike.empty:
        return None
    seeds = count_of(alike.runs.max(), "fresh seed")
    fresh = context.frames.fresh[context.frames.fresh.run.isin(fresh_runs(context))]
    right = ""
    if context.frames.metric == ACCURACY.name and len(fresh):
        right = f" Their validation accuracy is {fresh.score.mean():.4f} on average."
    text = (
        f"These {len(alike)} labels may be wrong: all {seeds} say the same other class, the surest first.{right} A weak"
        " network makes the same mistakes on every seed, so look at the images. What is wrong becomes right with a file"
        " for data.fixes."
    )
    shown = _pictures(context, alike)
    groups = [Pictures("Given label, and what all seeds say", shown)] if shown else []
    return Section("Labels that may be wrong", text, table=_table(alike.head(MAX_ROWS)), pictures=groups)


def _pictures(context: Context, alike: pd.DataFrame) -> list[Picture]:
    """The images that one of the runs kept as an example, in the order of the rows."""
    sources = {
        (example.row.file, example.row.true): example.source
        for run in fresh_runs(context)
        for example in examples_of(run)
        if example.row is not None
    }
    pictures = [
        Picture(sources[row.file, row.label], f"{row.label}, or {row.predicted}", row.file)
        for row in alike.rename(columns={"class": "label"}).itertuples()
        if (row.file, row.label) in sources
    ]
    return pictures[:MAX_PICTURES]


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "file": rows.file,
        "given label": rows["class"],
        "suggested": rows.predicted,
        "seeds": rows.runs.astype(str),
        "more probable by": rows.margin.map("{:.1%}".format),
    }
    return pd.DataFrame(columns)

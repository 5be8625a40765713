"""The confusion matrix of the best run, and the pairs of classes that it confuses most."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cifar.formatting import format_interval

from .. import figures
from ..statistics.confusion import confused
from . import Context, Section
from .run_table import best_first

ORDER = 100
MAX_PAIRS = 5


def section(context: Context) -> Section | None:
    run, name = run_and_name(context) if context.best_run else ("", "")
    counts = read_confusion(run) if run else None
    if counts is None:
        return None
    pairs = confused(counts).head(MAX_PAIRS)
    text = f"Validation images of {name}, after its best epoch."
    if len(pairs):
        first = pairs.iloc[0]
        text += f" Most often {first.true} is predicted as {first.predicted}: {first.share:.0%} of its images."
    return Section("Confusion matrix", text, {"confusion": figures.confusion(counts)}, _table(pairs))


def run_and_name(context: Context) -> tuple[str, str]:
    """A run directory, and what the text calls the run."""
    run = context.best_run
    if "confirmed" in context.answer:
        return _confirmed(context)
    if context.kind == "study":
        return run, f"trial {context.answer['best']['trial']}, the best reported"
    if context.kind == "runs":
        is_best = run == best_first(context.frames.runs).run.iloc[0]
        return run, f"{Path(run).name}, the best run{'' if is_best else ' of the best setting'}"
    return run, "this run" if context.kind == "run" else f"the best of {context.places[0].name}"


def _confirmed(context: Context) -> tuple[str, str]:
    """The first of the winner's runs on fresh seeds."""
    number = context.answer["confirmed"]["trial"]
    fresh = context.frames.fresh
    first = fresh[fresh.number == number].iloc[0]
    return first.run, f"trial {number}, the confirmed winner, on seed {first.seed}"


def read_confusion(run: str) -> pd.DataFrame | None:
    """The counts of confusion.csv in a run directory; None where it cannot be read."""
    try:
        counts = pd.read_csv(Path(run) / "confusion.csv", dtype={0: str}, keep_default_na=False)
        return counts.set_index("true \\ predicted").astype(int)
    except (OSError, ValueError, KeyError):
        return None


def _table(pairs: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "true": pairs["true"],
        "predicted as": pairs.predicted,
        "images": pairs.images.astype(str),
        "share": pairs.share.map("{:.1%}".format),
        "95% interval": [format_interval(row.low, row.high, ".1%") for row in pairs.itertuples()],
    }
    return pd.DataFrame(columns)

"""All runs of a grid or a folder, with the settings in which they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cifar.formatting import format_value
from cifar.objective import ACCURACY

from .. import figures
from . import MAX_ROWS, Context, Section

ORDER = 140


def section(context: Context) -> Section | None:
    if context.kind != "runs":
        return None
    runs = best_first(context.frames.runs)
    rows = runs.head(5 * MAX_ROWS)
    columns = {"run": rows.run.map(lambda run: Path(run).name), "status": rows.status}
    for key in differing_settings(runs):
        columns[key.removeprefix("config.")] = rows[key].map(setting_text)
    columns["best epoch"] = rows.best_epoch.astype(str)
    name = figures.measure(context.frames)
    columns[name] = rows.score.map("{:.4f}".format)
    if name != ACCURACY.label:
        columns[ACCURACY.label] = rows.val_accuracy.map("{:.4f}".format)
    return Section("All runs", "Best first.", table=pd.DataFrame(columns))


def best_first(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs by their scores; of equal ones, the first."""
    return runs.sort_values("score", ascending=False, kind="stable")


def differing_settings(runs: pd.DataFrame) -> list[str]:
    """The columns config.KEY of settings in which the runs differ, the seed included."""
    settings = [str(column) for column in runs if str(column).startswith("config.") and column != "config.resume"]
    return [column for column in settings if runs[column].map(setting_text).nunique() > 1]


def setting_text(value: Any) -> str:
    """A setting as text; empty in a run that does not have it, as runs of several options differ in their settings."""
    return "" if value is None or value != value else format_value(value)

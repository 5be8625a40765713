"""Precision and recall of each class, of the best run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cifar.formatting import format_interval
from cifar.intervals import wilson

from . import MAX_ROWS, Context, Section
from .confusion import run_and_name

ORDER = 105


def section(context: Context) -> Section | None:
    run, name = run_and_name(context) if context.best_run else ("", "")
    classes = read_classes(run) if run else None
    if classes is None or classes.recall.isna().all():
        return None
    known = classes.sort_values("recall", kind="stable")
    text = (
        f"Validation images of {name}, after its best epoch: balanced accuracy (the mean recall)"
        f" {classes.recall.mean():.4f}, macro F1 {classes.f1.mean():.4f}. Of the images of a class, recall is the share"
        " that is predicted as it; of the images that are predicted as it, precision is the share that is right."
    )
    if len(known) > 5 * MAX_ROWS:
        text += f" The {5 * MAX_ROWS} classes with the lowest recall."
    missing = classes["class"][classes.recall.isna()].tolist()
    if missing:
        text += f" Without validation images, and so not in the means: {', '.join(missing)}."
    return Section("Class by class", text, table=_table(known.head(5 * MAX_ROWS)))


def read_classes(run: str) -> pd.DataFrame | None:
    """classes.csv of a run directory; None where it cannot be read, as in runs of earlier versions."""
    try:
        classes = pd.read_csv(
            Path(run) / "classes.csv",
            dtype={"class": str},
            keep_default_na=False,
            na_values={"precision": "", "recall": "", "f1": ""},
        )
        return classes.astype({"images": int, "precision": float, "recall": float, "f1": float})
    except (OSError, ValueError, KeyError):
        return None


def _table(classes: pd.DataFrame) -> pd.DataFrame:
    intervals = [
        "" if pd.isna(row.recall) else format_interval(*wilson(row.recall, row.images), ".1%")
        for row in classes.itertuples()
    ]
    columns = {
        "class": classes["class"],
        "images": classes.images.astype(str),
        "recall": classes.recall.map(_share),
        "95% interval": intervals,
        "precision": classes.precision.map(_share),
        "F1": classes.f1.map(_share),
    }
    return pd.DataFrame(columns)


def _share(value: float) -> str:
    return "not defined" if pd.isna(value) else f"{value:.1%}"

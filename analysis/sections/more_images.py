"""A run that began with another on more images (from_run): the earlier model and the present one on the same images."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cifar.formatting import format_interval
from cifar.intervals import wilson
from cifar.results import read_result

from ..reading import attempt
from . import MAX_ROWS, Context, Section

ORDER = 5
EPOCH_CHOSEN = {
    "kept validation": "both models",
    "new validation": "the present model",
    "validation": "one model or both",
    "test": "neither",
}
"""Which model chose its best epoch by these images, and so looks better on them than it is."""


def section(context: Context) -> Section | None:
    if context.kind != "run":
        return None
    result: dict[str, Any] = attempt(lambda: read_result(context.frames.runs.run.iloc[0]), {}, [])
    compared = result.get("compared") or {}
    rows = {row["images_of"]: row for row in compared.get("rows", ())}
    row = rows.get("test") or rows.get("validation")
    if row is None:
        return None
    text = f"This run began with {result['from_run']['path']}: {_counts(result['from_run'])}. {_answer(row)}"
    new = compared["new_classes"]
    if new:
        text += " New classes, which the earlier model cannot predict, are below, and not in the comparison."
    return Section("Before and after", text, table=_table(list(rows.values()), new[: 5 * MAX_ROWS]))


def _counts(facts: dict[str, Any]) -> str:
    images, classes = facts["images"], facts["classes"]
    counts = ", ".join(f"{images[what]} {what}" for what in ("kept", "added", "removed", "relabelled"))
    names = [
        f"; classes {what}: {', '.join(classes[what][:MAX_ROWS])}" for what in ("added", "removed") if classes[what]
    ]
    return f"images {counts}{''.join(names)}"


def _answer(row: dict[str, Any]) -> str:
    interval = format_interval(row["low"], row["high"], "+.1%")
    text = (
        f"On the {row['images']} {row['images_of']} images that neither model was trained on, its accuracy is"
        f" {row['after']:.1%}, and that of the earlier one {row['before']:.1%}: {row['difference']:+.1%} (95% interval"
        f" of the pairs {interval}), by more images and more epochs together."
    )
    if row["images_of"] == "test":
        return text
    return (
        f"{text} This is an estimate, as validation images chose the best epochs; test=true asks images that did not."
    )


def _table(rows: list[dict[str, Any]], new: list[dict[str, Any]]) -> pd.DataFrame:
    pairs = [
        {
            "images": row["images_of"],
            "number": str(row["images"]),
            "earlier": f"{row['before']:.1%}",
            "present": f"{row['after']:.1%}",
            "difference": f"{row['difference']:+.1%}",
            "95% interval": format_interval(row["low"], row["high"], "+.1%"),
            "chose the best epoch of": EPOCH_CHOSEN[row["images_of"]],
        }
        for row in rows
    ]
    return pd.DataFrame([*pairs, *map(_of_class, new)]).fillna("")


def _of_class(row: dict[str, Any]) -> dict[str, str]:
    return {
        "images": f"new class {row['class']}, {row['images_of']}",
        "number": str(row["images"]),
        "present": f"{row['accuracy']:.1%}",
        "95% interval": f"present: {format_interval(*wilson(row['accuracy'], row['images']), '.1%')}",
    }

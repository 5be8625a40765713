"""Images that the best run gets wrong, those of classes that it confuses, and those right that it is least sure of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from cifar.formatting import count_of
from cifar.predictions import CONFUSED, LEAST_SURE, MISTAKE, MOST, VAL, Row, confident_mistakes

from ..predictions import Example, examples_of, predictions_of
from ..statistics.mistakes import wrong_by_run
from . import MAX_ROWS, Context, Picture, Pictures, Section
from .confusion import run_and_name

ORDER = 107
SURE = 0.9
"""The probability from which a mistake is called confident."""
Image = tuple[str, str]
"""Its file and its class."""


def section(context: Context) -> Section | None:
    run, name = run_and_name(context) if context.best_run else ("", "")
    predictions = predictions_of([run]) if run else pd.DataFrame()
    validated = predictions[predictions.part == VAL] if len(predictions) else predictions
    if validated.empty:
        return None
    by_seed = mistakes_by_seed(context)
    examples = examples_of(run)
    notes = _notes(by_seed)
    pictures = [
        Pictures("Most confident mistakes", _pictures(examples, MISTAKE, notes)),
        *_pairs(examples, notes),
        Pictures("Right, but least sure", _pictures(examples, LEAST_SURE, notes)),
    ]
    shown = [group for group in pictures if group.pictures]
    text = _text(validated, name, bool(shown), by_seed)
    table = _seeds_table(by_seed) if len(by_seed) else pd.DataFrame() if shown else _mistakes_table(validated)
    return Section("Mistakes", text, table=table, pictures=shown)


def fresh_runs(context: Context) -> list[str]:
    """The confirmed trial's runs on fresh seeds; empty where there are none."""
    if "confirmed" not in context.answer:
        return []
    fresh = context.frames.fresh
    return list(fresh.run[fresh.number == context.answer["confirmed"]["trial"]])


def mistakes_by_seed(context: Context) -> pd.DataFrame:
    """wrong_by_run of these runs."""
    predictions = predictions_of(fresh_runs(context))
    return wrong_by_run(predictions[predictions.part == VAL])


def _notes(by_seed: pd.DataFrame) -> dict[Image, str]:
    """On how many seeds each image is wrong, in words."""
    return {(row.file, row[3]): f"wrong on {row.wrong} of {count_of(row.runs, 'seed')}" for row in by_seed.itertuples()}


def _pictures(examples: Iterable[Example], kind: str, notes: Mapping[Image, str]) -> list[Picture]:
    return [
        Picture(example.source, _caption(example.row, kind), example.row.file, notes.get(_image(example.row), ""))
        for example in examples
        if example.kind == kind and example.row is not None
    ]


def _pairs(examples: Iterable[Example], notes: Mapping[Image, str]) -> list[Pictures]:
    """The examples of confused classes, a group for each pair."""
    pairs: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        if example.kind == CONFUSED and example.row is not None:
            pairs.setdefault((example.row.true, example.row.predicted), []).append(example)
    return [
        Pictures(f"{true} predicted as {predicted}", _pictures(of_pair, CONFUSED, notes))
        for (true, predicted), of_pair in pairs.items()
    ]


def _image(row: Row) -> Image:
    return row.file, row.true


def _caption(row: Row, kind: str) -> str:
    """The classes, where the title of the group does not name them, and the probability of the predicted one."""
    share = f"{row.probability:.0%}"
    if kind == CONFUSED:
        return share
    return f"{row.true}, {share}" if row.right else f"{row.true} as {row.predicted}, {share}"


def _text(validated: pd.DataFrame, name: str, shown: bool, by_seed: pd.DataFrame) -> str:
    wrong = validated[validated.predicted != validated["class"]]
    sure = int((wrong.probability >= SURE).sum()) or "none"
    images = count_of(len(validated), "validation image")
    of_images = f"{images} of {name}" if len(validated) < MOST else f"the {images} of {name} with the largest loss"
    text = (
        f"Of {of_images}, {len(wrong)} are wrong after its best epoch,"
        f" {sure} of these with a probability of {SURE:.0%} or more."
    )
    if len(by_seed):
        everywhere = int((by_seed.wrong == by_seed.runs.max()).sum())
        text += f" {everywhere} are wrong on all of {count_of(by_seed.runs.max(), 'fresh seed')}."
    text += " A confident mistake may also be a wrong label. The run's predictions.csv has all images."
    if not shown:
        text += " There are no images to show: a run that is trained to its end writes them."
    return text


def _seeds_table(by_seed: pd.DataFrame) -> pd.DataFrame:
    rows = by_seed.head(MAX_ROWS)
    columns = {
        "file": rows.file,
        "class": rows["class"],
        "most often predicted as": rows.predicted,
        "wrong on": [f"{row.wrong} of {count_of(row.runs, 'seed')}" for row in rows.itertuples()],
        "mean loss": rows.loss.map("{:.3f}".format),
    }
    return pd.DataFrame(columns)


def _mistakes_table(validated: pd.DataFrame) -> pd.DataFrame:
    rows = [Row(*values) for values in validated.drop(columns="run").itertuples(index=False)]
    return pd.DataFrame([_texts(row) for row in confident_mistakes(rows, MAX_ROWS)])


def _texts(row: Row) -> dict[str, Any]:
    return {"file": row.file, "class": row.true, "predicted": row.predicted, "probability": f"{row.probability:.1%}"}

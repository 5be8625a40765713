"""Learning and generalization curves, and what they show."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cifar.formatting import count_of

from .. import figures
from ..statistics.learning import diagnosis
from . import Context, Section, file_name

ORDER = 20
TITLE = "Learning and generalization"


def section(context: Context) -> Section | None:
    if context.kind == "several":
        return None
    epochs = figures.curves(context.frames)
    if epochs.empty:
        return None
    section = _of_one_run(epochs) if context.kind == "run" else _of_all_runs(epochs, context.best_run)
    objective = context.frames.objective
    if objective is not None and objective.column not in figures.MEASURES:
        section.figures[file_name(objective.column)] = figures.learning(epochs, objective.column)
    return section


def _of_one_run(epochs: pd.DataFrame) -> Section:
    drawn = {
        "loss": figures.both(epochs, "loss"),
        "accuracy": figures.both(epochs, "accuracy"),
        "gap": figures.learning(epochs, "gap"),
        "lr": figures.learning(epochs, "lr"),
    }
    text = diagnosis_text(diagnosis(epochs).iloc[0])
    return Section(TITLE, text[0].upper() + text[1:], drawn)


def _of_all_runs(epochs: pd.DataFrame, best_run: str) -> Section:
    complete = epochs[epochs.outcome == "complete"]
    learned = diagnosis(complete if len(complete) else epochs)
    text = (
        f"Still improving at the end: {learned.improving.sum()} of {count_of(len(learned), 'run')};"
        f" overfitted: {learned.overfitting.sum()}; diverged: {learned.diverged.sum()}."
    )
    best = learned[learned.run == best_run]
    if len(best):
        name = epochs.name[epochs.run == best_run].iloc[0]
        text = f"{name[0].upper()}{name[1:]}: {diagnosis_text(best.iloc[0])} {text}"
    drawn = {file_name(measure): figures.learning(epochs, measure) for measure in figures.MEASURES}
    return Section(TITLE, text, drawn)


def diagnosis_text(row: pd.Series[Any]) -> str:
    """A row of statistics.learning.diagnosis in words."""
    if row.diverged:
        return "it diverged; a smaller learning rate is the first thing to try."
    improving = "it was still improving at the end: training for longer may help"
    progress = improving if row.improving else "it had stopped improving"
    fit = "it overfitted after that" if row.overfitting else "it did not overfit"
    drops = {0: "did not drop", 1: "dropped once", 2: "dropped twice"}
    rate = drops.get(row.lr_drops, f"fell in {row.lr_drops} epochs")
    return f"best in epoch {row.best_epoch}; {progress}; {fit}; its learning rate {rate}."

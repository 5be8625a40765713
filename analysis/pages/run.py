"""The report of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from cifar.formatting import count_of, format_interval, format_value
from cifar.intervals import wilson
from cifar.objective import ACCURACY, OBJECTIVES

from .. import figures
from ..answer import data_of
from ..frames import Frames
from ..sections import Context, Place, sections_of
from ..sections.classes import read_classes
from ..statistics.learning import diagnosis
from ..wording import on_data
from .advice import after_training, on_generalization, on_guessing
from .base import Fact, Report, architecture_facts, command_of, is_running, score_facts, sentence, time_fact

SHOWN_SETTINGS = (
    *("config.optimizer", "config.scheduler", "config.loss", "config.ema", "config.early_stopping", "config.objective"),
    *("config.transfer", "config.augment", "config.data.source", "config.data.image_size", "config.data.limit"),
    *(
        "config.data.val_size",
        "config.data.fold",
        "config.data.groups",
        "config.data.fixes",
        "config.epochs",
        "config.time",
        "config.batch_size",
    ),
)
"""How the settings begin that a reader looks for first."""


def report_of(frames: Frames) -> Report:
    run = frames.runs.iloc[0]
    report = Report(frames.place, "one run", _counts(run), is_running(frames))
    if frames.epochs.empty:
        reason = run.message or run.problem
        problem = "No epoch has finished, so nothing can be said yet."
        return replace(report, problem=f"{problem} {reason}" if reason else problem)
    epochs = figures.curves(frames)
    return replace(
        report,
        facts=_facts(frames, run, epochs),
        table_title="Settings of this run",
        table=_settings_table(run),
        command=command_of(run.run),
        next_steps=_next_steps(run, epochs),
        sections=sections_of(Context("run", [Place(frames.place, frames)], run.run)),
    )


def _counts(run: pd.Series[Any]) -> str:
    done = f"{run.epochs_done} of " if pd.notna(run.epochs) else ""
    epochs = f"{done}{count_of(run.epochs if done else run.epochs_done, 'epoch')}"
    seed = f"seed {run.seed}" if pd.notna(run.seed) else ""
    return ", ".join(filter(None, [run.status, epochs, seed, run.device]))


def _facts(frames: Frames, run: pd.Series[Any], epochs: pd.DataFrame) -> list[Fact]:
    leaks = [*_without_leaks(run, "validation", "val"), *_without_leaks(run, "test", "test")]
    facts = [*score_facts(run), *_test_facts(run), *leaks, *_calibration_facts(run)]
    best = epochs.loc[epochs.score.idxmax()] if epochs.score.notna().any() else epochs.iloc[-1]
    losses = f"validation {best.val_loss:.4f}, training {best.train_loss:.4f} · nats"
    facts.append(Fact("generalization gap at the best epoch", f"{best.gap:+.4f}", losses))
    speed = f"{epochs.images_per_second.median():.0f} images/s"
    return [*facts, *architecture_facts(frames.runs), time_fact(run.train_seconds, speed)]


def _test_facts(run: pd.Series[Any]) -> list[Fact]:
    """The objective and the accuracy on the test set; nothing where these were not evaluated."""
    if pd.isna(run.test_accuracy):
        return []
    objective = OBJECTIVES.get(run.objective, ACCURACY)
    images = int(run.test_images)
    note = f"{format_interval(*wilson(run.test_accuracy, images))} · {count_of(images, 'image')}"
    accuracy = Fact("test accuracy", f"{run.test_accuracy:.4f}", note)
    value = run[f"test_{objective.name}"]
    if objective is ACCURACY or pd.isna(value):
        return [accuracy]
    name = objective.label.removeprefix("validation ")
    return [Fact(f"test {name}", f"{value:.4f}", count_of(images, "image")), accuracy]


def _without_leaks(run: pd.Series[Any], part: str, columns: str) -> list[Fact]:
    """The accuracy on images that are no training images; nothing where all are, or where that is not known."""
    accuracy, duplicates = run[f"{columns}_accuracy_without"], run[f"{columns}_duplicates"]
    if pd.isna(accuracy) or not duplicates:
        return []
    images = int(run[f"{columns}_images"] - duplicates)
    note = f"{format_interval(*wilson(accuracy, images))} · {count_of(images, 'image')}, {duplicates} left out"
    return [Fact(f"{part} accuracy without duplicates of training images", f"{accuracy:.4f}", note)]


def _calibration_facts(run: pd.Series[Any]) -> list[Fact]:
    """By how much probabilities are off; nothing for a run of an earlier version."""
    if pd.isna(run.ece_after):
        return []
    note = f"{run.ece_before:.4f} without a temperature · validation images"
    return [Fact("expected calibration error", f"{run.ece_after:.4f}", note)]


def _next_steps(run: pd.Series[Any], epochs: pd.DataFrame) -> list[str]:
    message = [sentence(f"{run.status}: {run.message}")] if run.message else []
    problem = [sentence(run.problem)] if run.problem else []
    learned = diagnosis(epochs).iloc[0]
    data = [sentence(line) for line in on_data(data_of(run))]
    guessing = [] if learned.diverged else on_guessing(read_classes(run.run))
    learning = guessing or [after_training(learned), *on_generalization(epochs, run.val_images)]
    return [*message, *data, *learning, *problem]


def _settings_table(run: pd.Series[Any]) -> pd.DataFrame:
    unused = "config.data.val_size" if pd.notna(run.get("config.data.folds")) else ""
    rows = [
        {"setting": str(key).removeprefix("config."), "value": format_value(run[key])}
        for key in run.index
        if str(key).startswith(SHOWN_SETTINGS) and not pd.isna(run[key]) and key != unused
    ]
    return pd.DataFrame(rows)

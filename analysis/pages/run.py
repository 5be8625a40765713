"""The report of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from .. import figures
from ..answer import copies_of
from ..formatting import format_interval, format_value
from ..frames import Frames
from ..sections import Context, Place, sections_of
from ..statistics.intervals import wilson
from ..statistics.learning import diagnosis
from ..wording import on_copies
from .advice import after_training, on_generalization
from .base import Fact, Report, architecture_facts, command_of, is_running, score_facts, sentence, time_fact

SHOWN_SETTINGS = (
    *("config.optimizer", "config.scheduler", "config.loss", "config.ema", "config.early_stopping", "config.objective"),
    *("config.transfer", "config.augment", "config.data.source", "config.data.image_size", "config.data.limit"),
    *("config.data.val_size", "config.data.fold", "config.data.groups", "config.epochs", "config.batch_size"),
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
    epochs = f"{run.epochs_done} of {run.epochs} epochs" if pd.notna(run.epochs) else f"{run.epochs_done} epochs"
    seed = f"seed {run.seed}" if pd.notna(run.seed) else ""
    return ", ".join(filter(None, [run.status, epochs, seed, run.device]))


def _facts(frames: Frames, run: pd.Series[Any], epochs: pd.DataFrame) -> list[Fact]:
    facts = score_facts(run)
    if pd.notna(run.test_accuracy):
        images = int(run.test_images)
        note = f"{format_interval(*wilson(run.test_accuracy, images))} · {images} images"
        facts.append(Fact("test accuracy", f"{run.test_accuracy:.4f}", note))
    best = epochs.loc[epochs.score.idxmax()] if epochs.score.notna().any() else epochs.iloc[-1]
    losses = f"validation {best.val_loss:.4f}, training {best.train_loss:.4f} · nats"
    facts.append(Fact("generalization gap at the best epoch", f"{best.gap:+.4f}", losses))
    speed = f"{epochs.images_per_second.median():.0f} images/s"
    return [*facts, *architecture_facts(frames.runs), time_fact(run.train_seconds, speed)]


def _next_steps(run: pd.Series[Any], epochs: pd.DataFrame) -> list[str]:
    message = [sentence(f"{run.status}: {run.message}")] if run.message else []
    learned = diagnosis(epochs).iloc[0]
    copies = [sentence(line) for line in on_copies(copies_of(run))]
    return [*message, *copies, after_training(learned), *on_generalization(epochs, run.val_images)]


def _settings_table(run: pd.Series[Any]) -> pd.DataFrame:
    unused = "config.data.val_size" if pd.notna(run.get("config.data.folds")) else ""
    rows = [
        {"setting": str(key).removeprefix("config."), "value": format_value(run[key])}
        for key in run.index
        if str(key).startswith(SHOWN_SETTINGS) and not pd.isna(run[key]) and key != unused
    ]
    return pd.DataFrame(rows)

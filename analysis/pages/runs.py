"""The report of a grid or of a folder of runs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from cifar.formatting import count_of, format_interval
from cifar.intervals import mean_interval

from .. import figures
from ..frames import Frames
from ..sections import MAX_ROWS, Context, Place, sections_of
from ..sections.run_table import best_first
from ..statistics.learning import diagnosis
from ..statistics.noise import noise_floor
from . import folds
from .advice import after_training
from .base import Fact, Report, architecture_facts, command_of, is_running, score_facts, time_fact
from .settings import Setting, grid_settings


def report_of(frames: Frames) -> Report:
    runs = best_first(frames.runs)
    counts = ", ".join(f"{count} {status or 'unknown'}" for status, count in runs.status.value_counts().items())
    report = Report(frames.place, count_of(len(runs), "run"), counts, is_running(frames))
    if pd.isna(runs.iloc[0].score):
        return replace(report, problem="No run has finished an epoch, so nothing can be said yet.")
    has_folds = folds.has_folds(runs)
    settings = grid_settings(runs)
    best_setting = settings[0].runs if has_folds else runs
    best = best_setting.iloc[0]
    noise = noise_floor(_repetitions(settings))
    return replace(
        report,
        facts=[
            *(folds.mean_facts(frames, best_setting, settings[0].text) if has_folds else score_facts(best)),
            *_noise_facts(noise, has_folds),
            *architecture_facts(best_setting.head(1)),
            time_fact(runs.train_seconds.sum()),
        ],
        table=_settings_table(frames, settings, has_folds),
        command=command_of(best.run, folds.WITHOUT if has_folds else ()),
        next_steps=_next_steps(frames, runs, settings, noise),
        sections=sections_of(Context("runs", [Place(frames.place, frames)], best.run)),
    )


def _repetitions(settings: list[Setting]) -> pd.DataFrame:
    """group and score: a row for each repetition of a setting."""
    frames = [pd.DataFrame({"group": index, "score": setting.scores}) for index, setting in enumerate(settings)]
    return pd.concat(frames, ignore_index=True)


def _noise_facts(noise: pd.DataFrame, has_folds: bool) -> list[Fact]:
    if noise.empty:
        return []
    row = noise.iloc[0]
    degrees = "1 degree" if row.df == 1 else f"{row.df:.0f} degrees"
    note = f"s.d. · {format_interval(row.low, row.high)} · {degrees} of freedom"
    between = "folds" if has_folds else "seeds"
    return [Fact(f"noise between {between}", f"{row.sd:.4f}", note)]


def _settings_table(frames: Frames, settings: list[Setting], has_folds: bool) -> pd.DataFrame:
    """The settings that differ, and the mean score of each combination over its seeds and folds."""
    rows = []
    for setting in settings:
        mean, low, high = mean_interval(setting.scores, frames.score_limits)
        counts = {"runs" if has_folds else "seeds": str(len(setting.runs))}
        if has_folds:
            counts = {"folds": folds.fold_counts(setting.runs)} | counts
        score = {f"mean {figures.measure(frames)}": f"{mean:.4f}", "95% interval": format_interval(low, high)}
        rows.append(setting.values | counts | score)
    return pd.DataFrame(rows).head(MAX_ROWS)


def _next_steps(frames: Frames, runs: pd.DataFrame, settings: list[Setting], noise: pd.DataFrame) -> list[str]:
    has_folds = folds.has_folds(runs)
    best_run = settings[0].runs.run.iloc[0] if has_folds else runs.run.iloc[0]
    learned = diagnosis(frames.epochs)
    best = learned[learned.run == best_run]
    steps = [after_training(best.iloc[0])] if len(best) else []
    steps += [] if has_folds else folds.other_folds(runs)
    if has_folds:
        steps += folds.next_steps(*(setting.runs for setting in settings))
    elif len(noise) and len(runs) > 1:
        lead = runs.score.iloc[0] - runs.score.iloc[1]
        sd = noise.sd.iloc[0]
        verdict = "more than" if lead > sd else "no more than"
        steps.append(f"The best run leads the next by {lead:.4f}, {verdict} the noise between seeds (s.d. {sd:.4f}).")
    else:
        steps.append("Run the best setting with more seeds (-m seed=0,1,2): one seed cannot show the uncertainty.")
    return [*steps, *_different_images(runs, has_folds)]


def _different_images(runs: pd.DataFrame, has_folds: bool) -> list[str]:
    """That runs, or runs of the same fold, were validated on different images; nothing where they were not."""
    splits = runs[runs.val_fingerprint != ""]
    by_fold = splits.groupby(folds.FOLD, dropna=False) if has_folds else [("", splits)]
    if any(rows.val_fingerprint.nunique() > 1 for _, rows in by_fold):
        return ["These runs were validated on different images: their scores cannot be compared."]
    return []

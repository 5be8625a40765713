"""The report of a grid or of a folder of runs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from .. import figures
from ..formatting import format_interval
from ..frames import Frames
from ..sections import MAX_ROWS, Context, Place, sections_of
from ..sections.run_table import best_first, differing_settings, setting_text
from ..statistics.intervals import mean_interval
from ..statistics.learning import diagnosis
from ..statistics.noise import noise_floor
from .advice import after_training
from .base import Fact, Report, architecture_facts, command_of, is_running, score_facts, time_fact

REPEATED = ("config.seed", "config.data.fold")
"""Settings in which repetitions of a run differ: a mean over these is that of the others."""


def report_of(frames: Frames) -> Report:
    runs = best_first(frames.runs)
    counts = ", ".join(f"{count} {status or 'unknown'}" for status, count in runs.status.value_counts().items())
    report = Report(frames.place, f"{len(runs)} runs", counts, is_running(frames))
    best = runs.iloc[0]
    if pd.isna(best.score):
        return replace(report, problem="No run has finished an epoch, so nothing can be said yet.")
    settings = [key for key in differing_settings(runs) if key not in REPEATED]
    scores = _scores_by_setting(runs, settings)
    noise = noise_floor(scores)
    return replace(
        report,
        facts=[
            *score_facts(best),
            *_noise_facts(noise, _has_folds(runs)),
            *architecture_facts(runs.head(1)),
            time_fact(runs.train_seconds.sum()),
        ],
        table=_settings_table(runs, settings, scores, figures.measure(frames)),
        command=command_of(best.run),
        next_steps=_next_steps(frames, runs, noise),
        sections=sections_of(Context("runs", [Place(frames.place, frames)], best.run)),
    )


def _scores_by_setting(runs: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """group and score: runs of one group differ in their seed, or their fold, alone."""
    group = runs[settings].map(setting_text).agg(" ".join, axis=1) if settings else pd.Series("", runs.index)
    return pd.DataFrame({"group": group, "score": runs.score}).dropna()


def _has_folds(runs: pd.DataFrame) -> bool:
    """Whether runs differ in the fold that they were validated on."""
    return "config.data.fold" in differing_settings(runs)


def _noise_facts(noise: pd.DataFrame, has_folds: bool) -> list[Fact]:
    if noise.empty:
        return []
    row = noise.iloc[0]
    note = f"s.d. · {format_interval(row.low, row.high)} · {row.df:.0f} degrees of freedom"
    between = "seeds and folds" if has_folds else "seeds"
    return [Fact(f"noise between {between}", f"{row.sd:.4f}", note)]


def _settings_table(runs: pd.DataFrame, settings: list[str], scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """The settings that differ, and the mean score of each combination over its seeds and folds, best first.

    `name` is that of the score.
    """
    rows = []
    for _, group in runs.loc[scores.index].groupby(scores.group, sort=False):
        mean, low, high = mean_interval(group.score)
        row = {key.removeprefix("config."): setting_text(group[key].iloc[0]) for key in settings}
        row["runs" if _has_folds(runs) else "seeds"] = str(len(group))
        row[f"mean {name}"] = f"{mean:.4f}"
        row["95% interval"] = format_interval(low, high)
        rows.append((mean, row))
    rows.sort(key=lambda pair: -pair[0])
    return pd.DataFrame([row for _, row in rows]).head(MAX_ROWS)


def _next_steps(frames: Frames, runs: pd.DataFrame, noise: pd.DataFrame) -> list[str]:
    learned = diagnosis(frames.epochs)
    best = learned[learned.run == runs.run.iloc[0]]
    steps = [after_training(best.iloc[0])] if len(best) else []
    has_folds = _has_folds(runs)
    if has_folds:
        steps.append("Each fold has other validation images: compare the means over the folds, not single runs.")
    elif len(noise) and len(runs) > 1:
        lead = runs.score.iloc[0] - runs.score.iloc[1]
        sd = noise.sd.iloc[0]
        verdict = "more than" if lead > sd else "no more than"
        steps.append(f"The best run leads the next by {lead:.4f}, {verdict} the noise between seeds (s.d. {sd:.4f}).")
    else:
        steps.append("Run the best setting with more seeds (-m seed=0,1,2): one seed cannot show the uncertainty.")
    splits = runs[runs.val_fingerprint != ""]
    by_fold = splits.groupby("config.data.fold", dropna=False) if has_folds else [("", splits)]
    if any(rows.val_fingerprint.nunique() > 1 for _, rows in by_fold):
        steps.append("These runs were validated on different images: their scores cannot be compared.")
    return steps

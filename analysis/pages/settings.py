"""The settings of a grid, each with the runs that repeat it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ..sections.run_table import differing_settings, setting_text
from . import folds

REPEATED = ("config.seed", folds.FOLD)
"""Settings in which repetitions of a run differ: a mean over these is that of the others."""
EPOCHS, TIME = "config.epochs", "config.time"
SHOWN = 3
"""Settings that a text names."""


@dataclass(frozen=True)
class Setting:
    """The runs with a score that differ in their seed or their fold alone, best first.

    `values` are the settings in which it differs from the others, by key; `scores` are those of its repetitions: of its
    folds, each the mean over its seeds, or else of its runs.
    """

    values: dict[str, str]
    runs: pd.DataFrame
    scores: pd.Series[float]

    @property
    def text(self) -> str:
        """As optimizer.lr=0.1; of many settings the first ones."""
        texts = [f"{key}={value}" for key, value in self.values.items() if value]
        return " ".join(texts[:SHOWN]) + (" ..." if texts[SHOWN:] else "")


def grid_settings(runs: pd.DataFrame) -> list[Setting]:
    """The settings by their mean scores, best first; those with a score of every fold come before the others.

    `runs` are those of a grid, best first.
    """
    has_folds = folds.has_folds(runs)
    if TIME in runs:
        runs = runs.assign(**{EPOCHS: runs[EPOCHS].where(runs[TIME].isna())})  # else the clock chose them
    keys = [key for key in differing_settings(runs) if key not in REPEATED]
    scored = runs[runs.score.notna()]
    texts = scored[keys].map(setting_text).agg("\n".join, axis=1) if keys else pd.Series("", scored.index)
    settings = []
    for _, group in scored.groupby(texts, sort=False):
        values = {key.removeprefix("config."): setting_text(group[key].iloc[0]) for key in keys}
        settings.append(Setting(values, group, folds.fold_means(group) if has_folds else group.score))
    return sorted(settings, key=lambda setting: (_is_incomplete(setting, has_folds), -setting.scores.mean()))


def _is_incomplete(setting: Setting, has_folds: bool) -> bool:
    return has_folds and bool(folds.missing_folds(setting.runs))

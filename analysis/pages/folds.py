"""What the report of a grid says of folds: the mean over them, which are missing, and how to train without them."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import count_of, format_interval
from cifar.intervals import SHARE, mean_interval
from cifar.objective import ACCURACY, OBJECTIVES

from ..frames import Frames
from ..sections.run_table import differing_settings, setting_text
from .base import Fact

FOLD = "config.data.fold"
FOLDS = "config.data.folds"
WITHOUT = ("data.folds=null", "data.fold=null")
"""The overrides that train without folds."""
HOW_TO_TRAIN = (
    f"The command trains without folds ({' '.join(WITHOUT)}), on all training images but those that data.val_from and"
    " data.val_size keep for validation; a run of a fold trains on all folds but that one."
)


def has_folds(runs: pd.DataFrame) -> bool:
    """Whether runs differ in the fold that they were validated on."""
    return FOLD in differing_settings(runs)


def fold_means(runs: pd.DataFrame, column: str = "score") -> pd.Series[float]:
    """The mean of each fold over its seeds; of runs without folds, each run.

    `runs` are those of one setting: seeds of a fold share their images, and are no independent repetitions.
    """
    if not _has_fold(runs):
        return runs[column].astype(float)
    return runs[column].astype(float).groupby(runs[FOLD].map(setting_text)).mean().dropna()


def fold_counts(runs: pd.DataFrame) -> str:
    """How many folds of how many the runs of one setting have, as "2 of 3"; empty without folds."""
    return f"{len(fold_means(runs))} of {_planned(runs)}" if _has_fold(runs) else ""


def missing_folds(runs: pd.DataFrame) -> list[str]:
    """The folds that none of the runs of one setting has a score of."""
    if not _has_fold(runs):
        return []
    return [str(fold) for fold in range(_planned(runs)) if str(fold) not in fold_means(runs).index]


def mean_facts(frames: Frames, runs: pd.DataFrame, setting: str) -> list[Fact]:
    """The mean of the objective over the folds, and that of the accuracy; `runs` are those of the setting."""
    run = runs.iloc[0]
    objective = OBJECTIVES.get(run.objective, ACCURACY)
    where = f"mean over {folds_text(runs)}"
    note = " · ".join(filter(None, [setting, count_of(len(runs), "run")]))
    facts = [] if runs.val_accuracy.isna().all() else [_accuracy_fact(runs, where, note)]
    if objective is ACCURACY:
        return facts
    interval = mean_interval(fold_means(runs), frames.score_limits)
    mean, *ends = (objective.signed(score) + 0.0 for score in interval)  # + 0.0: no "-0.0000"
    low, high = sorted(ends)
    return [Fact(f"{objective.label}, {where}", f"{mean:.4f}", f"{_interval(low, high)} · {note}"), *facts]


def _accuracy_fact(runs: pd.DataFrame, where: str, note: str) -> Fact:
    mean, low, high = mean_interval(fold_means(runs, "val_accuracy"), SHARE)
    return Fact(f"{ACCURACY.label}, {where}", f"{mean:.4f}", f"{_interval(low, high)} · {note}")


def _interval(low: float, high: float) -> str:
    return format_interval(low, high, missing="no interval from one fold")


def next_steps(best: pd.DataFrame, *others: pd.DataFrame) -> list[str]:
    """`best` are the runs of the best setting, `others` those of each other one."""
    steps = ["Each fold has other validation images: compare the means over the folds, not single runs."]
    missing = missing_folds(best)
    if missing:
        folds = ",".join(missing)
        steps.append(f"Only {fold_counts(best)} folds have a result: run the others too (-m data.fold={folds}).")
    if any(map(missing_folds, others)):
        steps.append("Settings without a result of every fold come after the others: their means are of fewer images.")
    if _has_fold(best):
        steps.append(HOW_TO_TRAIN)
    return steps


def other_folds(runs: pd.DataFrame) -> list[str]:
    """That runs are all of one fold of several; nothing where they are not."""
    missing = missing_folds(runs)
    if not missing:
        return []
    return [
        f"All runs are of one fold, {fold_counts(runs)} folds: run the others too (-m data.fold={','.join(missing)})."
    ]


def _has_fold(runs: pd.DataFrame) -> bool:
    return FOLD in runs and bool(runs[FOLD].map(setting_text).ne("").all())


def _planned(runs: pd.DataFrame) -> int:
    """data.folds of the runs of one setting; where it is unknown, as many as there are."""
    folds = pd.to_numeric(runs[FOLDS], errors="coerce").max() if FOLDS in runs else float("nan")
    return int(folds) if pd.notna(folds) else len(fold_means(runs))


def folds_text(runs: pd.DataFrame) -> str:
    """As 3 folds, or as 2 of 3 folds where some are missing."""
    counts = fold_counts(runs) if missing_folds(runs) else str(_planned(runs))
    return f"{counts} {'fold' if counts == '1' else 'folds'}"

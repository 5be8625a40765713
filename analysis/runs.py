"""Run directories as rows: one for the run, one for each of its epochs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from cifar.objective import ACCURACY, OBJECTIVES, Objective
from cifar.reporting import EpochMetrics
from cifar.results import flatten, read_metrics, read_result

from .reading import attempt, read_yaml, value_at
from .schema import EPOCHS, RUNS, table
from .trials import run_of

RESULT_KEYS = {
    "status": "status",
    "message": "message",
    "started": "started",
    "seed": "seed",
    "epochs": "epochs",
    "best_epoch": "best.epoch",
    "val_accuracy": "best.val_accuracy",
    "val_loss": "best.val_loss",
    "val_balanced_accuracy": "best.val_balanced_accuracy",
    "val_macro_f1": "best.val_macro_f1",
    "test_accuracy": "test.accuracy",
    "test_balanced_accuracy": "test.balanced_accuracy",
    "test_macro_f1": "test.macro_f1",
    "test_loss": "test.loss",
    "test_images": "test.images",
    "ece_before": "calibration.ece_before",
    "ece_after": "calibration.ece_after",
    "parameters": "model.parameters",
    "flops": "model.flops",
    "train_images": "data.train.images",
    "val_images": "data.val.images",
    "val_fingerprint": "data.val.fingerprint",
    "also_in_train": "data.val.also_in_train",
    "test_also_in_train": "test.also_in_train",
    "val_duplicates": "without_leaks.val.duplicates",
    "val_accuracy_without": "without_leaks.val.without.accuracy",
    "test_duplicates": "without_leaks.test.duplicates",
    "test_accuracy_without": "without_leaks.test.without.accuracy",
    "device": "device.type",
    "fixes_dropped": "data.fixes.drop",
    "fixes_relabelled": "data.fixes.relabel",
    "fixes_grouped": "data.fixes.group",
    "test_accuracy_without_fixes": "test.without_fixes.accuracy",
}
"""By column, its key in result.json; the other columns come from metrics.csv and from the folder."""
RUN_MARKERS = ("result.json", "metrics.csv", ".hydra/config.yaml")
"""One of these makes a folder a run directory."""


def run_folders(folder: Path) -> list[Path]:
    """The run directories at a folder: itself, or those up to three levels below, by number where they have one."""
    if is_run(folder):
        return [folder]
    below = itertools.chain.from_iterable(folder.glob(pattern) for pattern in ("*", "*/*", "*/*/*"))
    return sorted(filter(is_run, below), key=_by_number)


def trial_folders(folder: Path, trials: Iterable[FrozenTrial]) -> list[Path]:
    """The run directories in the folder of a study, by number: those of its trials, wherever they are, and others."""
    of_trials = {run for trial in trials if (run := run_of(trial, folder)) is not None}
    return sorted(filter(is_run, of_trials.union(folder.glob("*"))), key=_by_number)


def is_run(path: Path) -> bool:
    return path.is_dir() and any((path / marker).exists() for marker in RUN_MARKERS)


def _by_number(path: Path) -> tuple[Path, int, str]:
    return path.parent, int(path.name) if path.name.isdigit() else -1, path.name


def runs_and_epochs(folders: Iterable[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frames of runs and of epochs."""
    runs = []
    epochs = []
    for folder in folders:
        run, its_epochs = _run(folder)
        runs.append(run)
        epochs += its_epochs
    return table(runs, RUNS), table(epochs, EPOCHS)


def _run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's row, and those of its epochs."""
    problems: list[str] = []
    result: dict[str, Any] = attempt(lambda: read_result(folder), {}, problems)
    history: list[EpochMetrics] = attempt(lambda: read_metrics(folder / "metrics.csv"), [], problems, "metrics.csv: ")
    config: dict[str, Any] = attempt(
        lambda: read_yaml(folder / ".hydra" / "config.yaml"), {}, problems, "config.yaml: "
    )
    row = {name: value_at(result, key) for name, key in RESULT_KEYS.items()}
    row |= {"run": folder, "problem": "; ".join(problems), "epochs_done": len(history)}
    objective = _objective(result, config)
    best = value_at(result, f"best.{objective.column}")
    row |= {"objective": objective.name, "score": objective.signed(best) if isinstance(best, (int, float)) else None}
    row["train_seconds"] = sum(epoch.seconds for epoch in history)
    for key, value in flatten(config):
        row[f"config.{key}"] = json.dumps(value) if isinstance(value, list) else value
    if row.get("config.time") is not None:
        row["config.epochs"] = row["epochs"]  # those that the time allowed
    return row, [{"run": folder, **asdict(epoch), "score": _score(objective, epoch)} for epoch in history]


def _objective(result: dict[str, Any], config: dict[str, Any]) -> Objective:
    """What chose a run's best epoch; in an earlier version it was the accuracy."""
    names = (result.get("objective"), config.get("objective"))
    known = (OBJECTIVES[name] for name in names if isinstance(name, str) and name in OBJECTIVES)
    return next(known, ACCURACY)


def _score(objective: Objective, epoch: EpochMetrics) -> float | None:
    value: float | None = getattr(epoch, objective.column)
    return None if value is None else objective.signed(value)

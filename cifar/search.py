"""What the sweeper knows of run.py. Imports neither torch nor Optuna."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cifar.options.check import check
from cifar.options.former import upgrade_settings
from cifar.results import read_metrics
from cifar.sweep.app import SearchedApp, quoted

if TYPE_CHECKING:
    from optuna.study import Study


def resume(run: Path) -> list[str]:
    """The override that resumes the run in a directory, where it has a checkpoint."""
    return [f"resume={quoted(str(run))}"] if (run / "checkpoint.pt").exists() else []


def history(run: Path) -> Iterator[tuple[int, Mapping[str, float]]]:
    """The epochs in the metrics.csv of a run directory."""
    metrics = run / "metrics.csv"
    for epoch in read_metrics(metrics) if metrics.exists() else []:
        yield epoch.epoch, {"val_accuracy": epoch.val_accuracy}


def answer(study: Study, folder: Path) -> str:
    """What is best, how sure that is, and what to do next."""
    from analysis import frames, summary  # not before it is needed: pandas and scipy take a second

    return summary.text(summary.summarize(frames.of_study(study, os.path.relpath(folder), folder)))


APP = SearchedApp(
    command=("python", "run.py"),
    metrics={"val_accuracy": "maximize"},
    check=check,
    forbidden={
        "test": "it sees no test images; allowed: test=false (then: python run.py -m hydra/sweeper=confirm"
        " hydra.sweeper.study=DIR)",
        "resume": "it resumes by itself; allowed: resume=null",
    },
    execution_keys=("device", "threads", "cuda_graph", "cache", "resume", "test", "data.root", "from_study", "tracker"),
    process_keys=("device", "threads", "deterministic"),
    threads_key="threads",
    device_key="device",
    seed_key="seed",
    chance_keys=("data.val_seed",),
    test_key="test",
    epochs_key="epochs",
    name_groups=("data", "model", "optimizer", "scheduler", "transfer", "search"),
    resume=resume,
    history=history,
    upgrade_settings=upgrade_settings,
    at_end=answer,
)

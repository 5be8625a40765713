"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cifar.reporting import EpochMetrics
from cifar.trackers.base import TrackedRun, Tracker, display_name, measured

FAILED = ("diverged", "failed")
"""The statuses for which the run has exit code 1."""


class WandB(Tracker):
    """Logs to Weights & Biases. A sweep is a group of runs.

    With mode "offline" it writes to the folder wandb/ in the run directory, which `wandb sync` uploads later; with
    "online" it uploads at once.
    """

    def __init__(self, project: str, mode: str) -> None:
        self.project = project
        self.mode: Any = mode

    def start(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run = wandb.init(
            project=self.project,
            mode=self.mode,
            dir=run.directory,
            id=run.identity,
            resume="allow",
            name=display_name(run.directory),
            group=display_name(run.study) if run.study else None,
            config=dict(run.settings),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, init_timeout=20),
        )
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        self.run.log(measured(metrics), step=metrics.epoch)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self.run.summary.update({**figures, "status": status})
        self.run.finish(exit_code=int(status in FAILED))

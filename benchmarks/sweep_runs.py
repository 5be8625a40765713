"""What the sweep benchmarks share: sweeps of sweep_app.py, and when their trials ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

ROOT = Path(__file__).parent.parent
SPACE = ("optimizer.momentum=interval(0.0,0.9)", "optimizer.lr=interval(0.01,0.1)", "optimizer.weight_decay=0")


def start(folder: Path, *overrides: str, sweeper: str = "optuna", seconds: float = 0.0) -> subprocess.Popen[bytes]:
    """A sweep of the app in `folder`/study, its output in `folder`/log."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.sweep_app",
        "-m",
        f"hydra/sweeper={sweeper}",
        "hydra.sweep.dir=" + str(folder / "study"),
    ]
    environment = {"APP_SECONDS": str(seconds), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [*command, f"hydra.sweep.dir={folder}/study", *SPACE, *overrides],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for a sweep; a failure ends the benchmark with its output."""
    if process.wait() != 0:
        sys.exit((folder / "log").read_text("utf-8", "replace")[-3000:])


def spans(folder: Path) -> list[dict[str, Any]]:
    """When and where each finished trial ran (pid, begun, ended in seconds since 1970), by their begin."""
    runs = [json.loads(path.read_text("utf-8")) for path in (folder / "study").glob("*/span.json")]
    return sorted(runs, key=lambda span: span["begun"])


def trials(folder: Path) -> list[FrozenTrial]:
    storage = f"sqlite:///{folder}/study/study.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()

"""Seconds to make the report of 200 trials of 10 epochs, and its size.

python -m benchmarks report
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from benchmarks.common import save
from cifar.reporting import EpochMetrics
from cifar.results import RunDirectory, summary

SPACE = {
    "optimizer.lr": FloatDistribution(1e-3, 0.3, log=True),
    "optimizer.momentum": FloatDistribution(0.5, 0.99),
    "optimizer.weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BEGUN = datetime(2026, 1, 1)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        make_study(Path(place), options.trials, options.epochs)
        begun = time.perf_counter()
        from analysis import report  # its imports are a part of what is waited for

        report.main([place])
        seconds = time.perf_counter() - begun
        megabytes = (Path(place) / "report" / "report.html").stat().st_size / 1e6
    result = {
        "what": f"the report of {options.trials} trials of {options.epochs} epochs",
        "seconds": seconds,
        "megabytes": megabytes,
        "figure": f"{seconds:.1f} s, a page of {megabytes:.1f} MB",
    }
    save("report", "python -m benchmarks report", result)


def make_study(folder: Path, trials: int, epochs: int) -> None:
    """A search in `folder` as the sweeper leaves it, of made-up curves; half of the trials pruned, a few failed."""
    random = np.random.default_rng(0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder}/study.db"
    study = optuna.create_study(study_name="made-up", storage=storage, direction="maximize")
    made = [_trial(folder, number, epochs, random) for number in range(trials)]
    study.add_trials(made)


def _trial(folder: Path, number: int, epochs: int, random: np.random.Generator) -> optuna.trial.FrozenTrial:
    places = random.random(3)
    params = {
        "optimizer.lr": float(10 ** (-3 + 2.477 * places[0])),
        "optimizer.momentum": float(0.5 + 0.49 * places[1]),
        "optimizer.weight_decay": float(10 ** (-5 + 3 * places[2])),
    }
    quality = 0.7 - 0.8 * (places[0] - 0.6) ** 2 - 0.2 * (places[2] - 0.4) ** 2
    pruned, failed = number > 10 and random.random() < 0.5, random.random() < 0.03
    last = int(random.integers(1, epochs)) if pruned or failed else epochs
    accuracy = quality * (1 - np.exp(-np.arange(1, last + 1) / 3)) + 0.01 * random.normal(size=last)
    write_run(folder / str(number), accuracy, params, "pruned" if pruned else "failed" if failed else "finished")
    state = TrialState.FAIL if failed else TrialState.PRUNED if pruned else TrialState.COMPLETE
    facts: dict[str, Any] = {
        "folder": str(number),
        "worker": {"host": "vm", "pid": 1 + number % 2, "index": number % 2},
    }
    trial = optuna.create_trial(
        state=state,
        value=float(accuracy.max()) if state == TrialState.COMPLETE else None,
        params=params,
        distributions=dict(SPACE),
        intermediate_values={epoch: float(a) for epoch, a in enumerate(accuracy, 1)},
        user_attrs=facts | ({"outcome": "failed", "reason": "out of memory"} if failed else {}),
    )
    trial.datetime_start = BEGUN + timedelta(minutes=number // 2)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=5 * last)
    return trial


def write_run(folder: Path, accuracy: Sequence[float], params: dict[str, float], status: str) -> None:
    """A run directory of a curve."""
    history = [
        EpochMetrics(n, 2.5 - 2 * a, a + 0.02 * n / 10, 2.5 - 1.9 * a, a, params["optimizer.lr"], 5.0, 900.0)
        for n, a in enumerate(map(float, accuracy), 1)
    ]
    (folder / ".hydra").mkdir(parents=True)
    settings = "".join(f"  {key.partition('.')[2]}: {value}\n" for key, value in params.items())
    (folder / ".hydra" / "config.yaml").write_text(f"optimizer:\n  _target_: torch.optim.SGD\n{settings}")
    directory = RunDirectory(folder)
    directory.start(history, resumed=True)
    directory.write_confusion(CLASSES, (np.eye(10, dtype=int) * 400 + 10).tolist())
    facts = {"epochs": 10, "seed": 0, "model": {"parameters": 510_000, "flops": 56_000_000}}
    images = {"data": {"train": {"images": 45000}, "val": {"images": 5000, "fingerprint": "f"}}}
    directory.write_result({"status": status, "message": None} | summary(history) | facts | images)

"""Seconds to write the report of 200 trials of 10 epochs, and its size.

python -m benchmarks report
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks.common import save
from cifar.reporting import EpochMetrics
from cifar.results import RunDirectory, summary

SPACE = {
    "optimizer.lr": FloatDistribution(1e-3, 0.3, log=True),
    "optimizer.momentum": FloatDistribution(0.5, 0.99),
    "optimizer.weight_decay": FloatDistribution(1e-5, 1e-2, log=True),
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
START = datetime(2026, 1, 1)
STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        make_study(Path(place), options.trials, options.epochs)
        start = time.perf_counter()
        from analysis import report  # imported here: the user waits for its imports too

        report.main([place])
        seconds = time.perf_counter() - start
        megabytes = (Path(place) / "report" / "report.html").stat().st_size / 1e6
    result = {
        "what": f"the report of {options.trials} trials of {options.epochs} epochs",
        "seconds": seconds,
        "megabytes": megabytes,
        "figure": f"{seconds:.1f} s, a page of {megabytes:.1f} MB",
    }
    save("report", "python -m benchmarks report", result)


@dataclass(frozen=True)
class SimulatedTrial:
    """`accuracy` has an entry for each epoch; `status` is that of its run."""

    number: int
    params: dict[str, float]
    accuracy: Sequence[float]
    status: str


def make_study(folder: Path, trials: int, epochs: int) -> None:
    """A search in `folder` as the sweeper leaves it, of simulated curves; half of the trials pruned, a few failed."""
    random = np.random.default_rng(0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder}/study.db"
    study = optuna.create_study(study_name="made-up", storage=storage, direction="maximize")
    simulated = [_simulate(number, epochs, random) for number in range(trials)]
    for trial in simulated:
        write_run(folder / str(trial.number), trial)
    study.add_trials([_frozen(trial) for trial in simulated])


def _simulate(number: int, epochs: int, random: np.random.Generator) -> SimulatedTrial:
    places = random.random(3)
    params = {
        "optimizer.lr": float(10 ** (-3 + 2.477 * places[0])),
        "optimizer.momentum": float(0.5 + 0.49 * places[1]),
        "optimizer.weight_decay": float(10 ** (-5 + 3 * places[2])),
    }
    pruned = number > 10 and random.random() < 0.5
    failed = random.random() < 0.03
    last = int(random.integers(1, epochs)) if pruned or failed else epochs
    quality = 0.7 - 0.8 * (places[0] - 0.6) ** 2 - 0.2 * (places[2] - 0.4) ** 2
    accuracy = quality * (1 - np.exp(-np.arange(1, last + 1) / 3)) + 0.01 * random.normal(size=last)
    status = "finished"
    if failed:
        status = "failed"
    elif pruned:
        status = "pruned"
    return SimulatedTrial(number, params, [float(value) for value in accuracy], status)


def _frozen(simulated: SimulatedTrial) -> FrozenTrial:
    """The trial as Optuna stores it."""
    number = simulated.number
    epochs = len(simulated.accuracy)
    attributes: dict[str, Any] = {
        "folder": str(number),
        "worker": {"host": "vm", "pid": 1 + number % 2, "index": number % 2},
    }
    if simulated.status == "failed":
        attributes |= {"outcome": "failed", "reason": "out of memory"}
    trial = optuna.create_trial(
        state=STATES[simulated.status],
        value=max(simulated.accuracy) if simulated.status == "finished" else None,
        params=simulated.params,
        distributions=dict(SPACE),
        intermediate_values=dict(enumerate(simulated.accuracy, 1)),
        user_attrs=attributes,
    )
    trial.datetime_start = START + timedelta(minutes=number // 2)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=5 * epochs)
    return trial


def write_run(folder: Path, trial: SimulatedTrial) -> None:
    """The run directory of a trial."""
    lr = trial.params["optimizer.lr"]
    history = [_metrics(epoch, accuracy, lr) for epoch, accuracy in enumerate(trial.accuracy, 1)]
    (folder / ".hydra").mkdir(parents=True)
    settings = "".join(f"  {key.partition('.')[2]}: {value}\n" for key, value in trial.params.items())
    (folder / ".hydra" / "config.yaml").write_text(f"optimizer:\n  _target_: torch.optim.SGD\n{settings}")
    directory = RunDirectory(folder)
    directory.start(history, resumed=True)
    directory.write_confusion(CLASSES, (np.eye(10, dtype=int) * 400 + 10).tolist())
    result = {"status": trial.status, "message": None, **summary(history), "epochs": 10, "seed": 0}
    model = {"parameters": 510_000, "flops": 56_000_000}
    data = {"train": {"images": 45000}, "val": {"images": 5000, "fingerprint": "f"}}
    directory.write_result({**result, "model": model, "data": data})


def _metrics(epoch: int, accuracy: float, lr: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train_loss=2.5 - 2 * accuracy,
        train_accuracy=accuracy + 0.02 * epoch / 10,
        val_loss=2.5 - 1.9 * accuracy,
        val_accuracy=accuracy,
        lr=lr,
        seconds=5.0,
        images_per_second=900.0,
    )

"""Runs with time=...: how far each is from its time, and whether its schedule was finished.

python -m benchmarks times --set cifar10=DIR --out OUT --keep           # 20 runs of 20 s to 3 minutes, an hour in all
python -m benchmarks times --set cifar10=DIR --out OUT --keep --busy    # the same beside a busy process

The runs are of scikit-learn's digits and of 2,000 images of each set. Every fourth is killed (SIGKILL) in the middle,
and resumed. What was measured is in OUT/runs-quiet.json or OUT/runs-busy.json: the same command continues.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import statistics
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.busy import busy_process
from benchmarks.folders import add_sets, sets, words_of, written
from benchmarks.typed import RUN, Kept, finish, started, typed
from cifar.compose import recorded_config
from cifar.durations import COUNTED
from cifar.results import read_metrics, read_result
from cifar.training.optim import build_optimizer
from cifar.training.schedulers import build_schedule

SECONDS = (20, 30, 45, 60, 75, 90, 105, 120, 150, 180)
IMAGES = 2000
KILLED_EVERY = 4


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks times", description=__doc__)
    add_sets(parser)
    parser.add_argument("--seconds", type=int, nargs="+", default=SECONDS)
    parser.add_argument("--busy", action="store_true", help="beside a busy process")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args(argv)
    folders = {name: written(name, source, IMAGES, options.out / "sets") for name, source in sets(options).items()}
    data = {name: ("data=image_folder", f"data.root={folder}") for name, folder in folders.items()}
    data = {"digits": ("data=digits", "model.width=8"), **data}
    beside = "busy" if options.busy else "quiet"
    kept = Kept(options.out / f"runs-{beside}.json")
    rows = {}
    with busy_process() if options.busy else nullcontext():
        for number, (seconds, name) in enumerate(itertools.product(options.seconds, data), 1):
            run = f"{name}-{seconds}"
            place = options.out.resolve() / beside / run
            killed = number % KILLED_EVERY == 0
            rows[run] = kept.get(run, partial(measured, data[name], seconds, place, killed))
    finish(f"times-{beside}", command(options), summary(rows, beside), options.keep)


def command(options: argparse.Namespace) -> str:
    seconds = " ".join(map(str, options.seconds))
    busy = " --busy" if options.busy else ""
    return f"python -m benchmarks times {words_of(sets(options))} --seconds {seconds}{busy}"


def measured(data: tuple[str, ...], seconds: int, place: Path, killed: bool) -> dict[str, Any]:
    """A run of so many seconds in the folder `place`: seconds that it took, of all processes that it had."""
    shutil.rmtree(place, ignore_errors=True)  # a run that was stopped
    words = (*RUN, "experiment=photographs", *data, f"time={seconds}s", "hydra.run.dir=run")
    before = 0.0
    if killed:
        before = kill_in_the_middle(words, place, seconds)
        words = (*RUN, "resume=run")
    wall = before + typed(words, place)
    result, metrics = read_result(place / "run"), read_metrics(place / "run" / "metrics.csv")
    counted = sum(result["seconds"].get(name, 0.0) for name in COUNTED)
    plan = result["plan"]
    last = last_rate(place / "run", round(plan["planned_epochs"] * plan["steps_per_epoch"]))
    return {
        "time": seconds,
        "counted_seconds": counted,
        "error": counted / seconds - 1,
        "wall_seconds": wall,
        "killed": killed,
        "epochs": len(metrics),
        "corrections": len(plan["corrections"]),
        "last_lr": metrics[-1].lr,
        "last_lr_of_schedule": last,
        "finished": abs(metrics[-1].lr - last) <= 1e-6 * last + 1e-12,
    }


def kill_in_the_middle(words: tuple[str, ...], place: Path, seconds: int) -> float:
    """Start a run, and kill it when its epochs have taken half of its time; the seconds until then."""
    start, process = time.perf_counter(), started(words, place)
    table = place / "run" / "metrics.csv"
    while process.poll() is None:
        if table.exists() and sum(metrics.seconds for metrics in read_metrics(table)) > seconds / 2:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            break
        time.sleep(0.5)
    return time.perf_counter() - start


def last_rate(run: Path, steps: int) -> float:
    """The learning rate of the last of so many steps, by the schedule that a run recorded.

    The steps are those that were planned first: a correction spreads the rest of their schedule over other steps.
    """
    config = recorded_config(run)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(config.optimizer.arguments(), [{"params": [parameter], "weight_decay": 0.0}])
    schedule = build_schedule(config.scheduler.arguments(config), optimizer, steps)
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
    return float(optimizer.param_groups[0]["lr"])


def summary(rows: dict[str, dict[str, Any]], beside: str) -> dict[str, Any]:
    errors = [abs(row["error"]) for row in rows.values()]
    median, most = statistics.median(errors), max(errors)
    finished = sum(row["finished"] for row in rows.values())
    resumed = sum(row["killed"] for row in rows.values())
    return {
        "what": f"{len(rows)} runs with a time of {_span(rows)} on digits and real images,"
        f" {'beside a busy process' if beside == 'busy' else 'alone'}, {resumed} of them killed and resumed: how far"
        " they are from their time; schedules that were finished",
        "figure": f"{median:.1%} in the median, {most:.1%} at most; {finished} of {len(rows)}",
        "runs": rows,
    }


def _span(rows: dict[str, dict[str, Any]]) -> str:
    seconds = [row["time"] for row in rows.values()]
    return f"{min(seconds)} to {max(seconds)} seconds"

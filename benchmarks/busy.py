"""What another busy process costs: seconds of an epoch with the machine idle and beside one, by how threads wait.

python -m benchmarks busy --rounds 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from benchmarks.common import Remote, save
from benchmarks.paths import as_it_is, endless, one_run, random_splits
from cifar.training import threads

TRAIN, VAL = 512, 256
CORES = len(os.sched_getaffinity(0))


class Variant(NamedTuple):
    """How the threads of a run wait: `environment` is set before PyTorch is imported."""

    threads: int
    pinned: bool
    environment: Mapping[str, str]


VARIANTS = {
    "as it is (all threads, pinned)": Variant(CORES, True, {}),
    "not pinned": Variant(CORES, False, {}),
    "not pinned, OMP_WAIT_POLICY=passive": Variant(CORES, False, {"OMP_WAIT_POLICY": "passive"}),
    "not pinned, GOMP_SPINCOUNT=1000": Variant(CORES, False, {"GOMP_SPINCOUNT": "1000"}),
    "pinned, OMP_WAIT_POLICY=passive": Variant(CORES, True, {"OMP_WAIT_POLICY": "passive"}),
    "1 thread": Variant(1, True, {}),
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks busy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    remotes = {name: start(variant) for name, variant in VARIANTS.items()}
    idle = measure(remotes, options.rounds)
    with busy_process():
        busy = measure(remotes, options.rounds)
    for remote in remotes.values():
        remote.close()
    reference = next(iter(idle.values()))
    rows = {name: {"idle": idle[name], "busy": busy[name]} for name in VARIANTS}
    figures = [f"{name} {row['idle'] / reference:.2f}, {row['busy'] / reference:.2f}" for name, row in rows.items()]
    what = (
        f"resnet14, an epoch of {TRAIN} training and {VAL} validation images: seconds with the machine idle, and beside"
    )
    result = {
        "what": f"{what} beside one busy process, relative to the first when idle",
        "rounds": options.rounds,
        "seconds": rows,
        "figure": "; ".join(figures),
    }
    save("busy", "python -m benchmarks busy", result)


def epochs(variant: Variant) -> Iterator[float]:
    """Images per second of each epoch of one run."""
    if not variant.pinned:
        threads.TASKS = threads.TASKS / "none"  # pins nothing, as on a system without this directory
    return one_run(random_splits(TRAIN, VAL), endless("device=cpu", f"threads={variant.threads}"), as_it_is)


def start(variant: Variant) -> Remote:
    """A run in a process with this environment, after its first epoch."""
    before = dict(os.environ)
    os.environ.update(variant.environment)
    try:
        remote = Remote(epochs, variant)
    finally:
        os.environ.clear()
        os.environ.update(before)
    next(remote)
    return remote


def measure(remotes: Mapping[str, Remote], rounds: int) -> dict[str, float]:
    """The median seconds of an epoch of each, in alternation."""
    seconds: dict[str, list[float]] = {name: [] for name in remotes}
    for _ in range(rounds):
        for name, remote in remotes.items():
            seconds[name].append(TRAIN / next(remote))
    return {name: median(values) for name, values in seconds.items()}


@contextmanager
def busy_process() -> Iterator[None]:
    """One process that computes all the time."""
    process = multiprocessing.get_context("spawn").Process(target=_compute, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _compute() -> None:
    while True:
        pass

"""Share of a sweep in which its workers idle, with trials that differ tenfold in length, against the stock sweeper.

python -m benchmarks sweep_idle
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.common import save
from benchmarks.sweep_runs import finish, spans, start


def idle(folder: Path, jobs: int) -> float:
    """The share of the time from the first begin to the last end in which a worker ran no trial."""
    runs = spans(folder)
    whole = max(span["ended"] for span in runs) - runs[0]["begun"]
    return 1 - sum(span["ended"] - span["begun"] for span in runs) / (jobs * whole)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep_idle", description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="the shortest trial; the longest takes ten times that"
    )
    options = parser.parse_args(argv)
    common = [f"hydra.sweeper.n_trials={options.trials}", f"hydra.sweeper.n_jobs={options.jobs}"]
    common += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={options.jobs}"]
    common += ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0"]
    shares = {}
    for name, more in {"optuna": ["hydra/sweeper/pruner=none"], "stock": []}.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            finish(start(folder, *common, *more, sweeper=name, seconds=options.seconds), folder)
            shares[name] = idle(folder, options.jobs)
    what = f"{options.trials} trials of {options.seconds} to {10 * options.seconds} s, {options.jobs} workers"
    result = {
        "what": f"{what}: the share of the time that they idle",
        "idle": {"this project": shares["optuna"], "stock sweeper": shares["stock"]},
        "figure": f"{shares['optuna']:.1%} against {shares['stock']:.1%} of the stock sweeper",
    }
    save("sweep-idle", "python -m benchmarks sweep_idle", result)

"""From nothing to a tested winner: a search, its confirmation and the test set, and how long each takes.

python -m benchmarks whole --data DIR --out outputs/whole        # DIR/{train,test}/<class>/*; more settings of run.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.common import save
from benchmarks.sweep_runs import ROOT, trials
from cifar.results import read_result


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks whole", description=__doc__)
    parser.add_argument("--data", required=True, help="a directory with train/<class>/* and test/<class>/*")
    parser.add_argument("--out", type=Path, default=Path("outputs/whole"), help="for the study and the two logs")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--name", default="whole", help="of the result: benchmarks/results/NAME.json")
    parser.add_argument("settings", nargs="*", help="as model=resnet50 hydra.sweeper.trials_per_worker=8")
    options = parser.parse_args(argv)
    study = options.out.resolve() / "study"
    study.mkdir(parents=True)
    data = ["data=image_folder", f"data.root={options.data}"]
    search = ["hydra/sweeper=optuna", f"hydra.sweeper.n_trials={options.trials}", f"hydra.sweep.dir={study}"]
    at_once = [setting for setting in options.settings if setting.startswith("hydra.sweeper.trials_per_worker=")]
    seconds = {
        "search": _timed(options.out / "search.log", *data, *search, *options.settings),
        "confirmation and test": _timed(
            options.out / "confirm.log", "hydra/sweeper=confirm", f"hydra.sweeper.study={study}", *at_once
        ),
    }
    save(options.name, f"python -m benchmarks whole --data DIR {' '.join(options.settings)}", _result(study, seconds))


def _timed(log: Path, *arguments: str) -> float:
    """The seconds that run.py takes; a failure ends the benchmark with its output."""
    start = time.monotonic()
    with log.open("w") as output:
        code = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "-m", *arguments], stdout=output, stderr=subprocess.STDOUT
        ).returncode
    if code != 0:
        sys.exit(log.read_text("utf-8", "replace")[-3000:])
    return time.monotonic() - start


def _result(study: Path, seconds: dict[str, float]) -> dict[str, Any]:
    ended = Counter(trial.state.name.lower() for trial in trials(study.parent))
    tested = [read_result(path.parent)["test"]["accuracy"] for path in study.glob("confirmation/test-1/*/result.json")]
    counts = ", ".join(f"{count} {state}" for state, count in ended.items())
    return {
        "what": "a search, its confirmation on fresh seeds and the test set, by three commands",
        "figure": f"search ({counts}) {seconds['search']:.0f} s, confirmation and test"
        f" {seconds['confirmation and test']:.0f} s; test accuracy {mean(tested):.4f} (mean of {len(tested)} seeds)",
        "seconds": seconds,
        "trials": dict(ended),
        "test accuracy by seed": tested,
        "how sure": _how_sure((study.parent / "confirm.log").read_text("utf-8")),
    }


def _how_sure(log: str) -> list[str]:
    """What the answer says of its uncertainty."""
    return [line.strip() for line in log.partition("how sure:\n")[2].partition("\nnext:")[0].splitlines()]

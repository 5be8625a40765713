"""Seconds from a command to its first training step, to its help, and to a whole run on the digits.

python -m benchmarks startup
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import save, spread

RUN = Path(__file__).parent.parent / "run.py"
DIGITS = ["data=digits", "model=resnet14", "model.width=16"]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    figures: dict[str, list[float]] = {
        "python run.py --help": [],
        "to the first step": [],
        "in all": [],
        "accuracy": [],
    }
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.rounds):
            figures["python run.py --help"].append(_run(["--help"]))
            directory = Path(place) / str(number)
            seconds = _run([*DIGITS, f"hydra.run.dir={directory}", f"seed={number}"])
            result: dict[str, Any] = json.loads((directory / "result.json").read_text())
            figures["in all"].append(seconds)
            figures["to the first step"].append(seconds - result["train_seconds"])
            figures["accuracy"].append(result["best"]["val_accuracy"])
    what = f"`python run.py {' '.join(DIGITS)}`, seeds 0 to {options.rounds - 1}; the first step by all but the epochs"
    middle = {name: statistics.median(values) for name, values in figures.items()}
    figure = (
        f"help {middle['python run.py --help']:.2f} s, first step after {middle['to the first step']:.1f} s,"
        f" in all {middle['in all']:.0f} s, accuracy {min(figures['accuracy']):.3f} to {max(figures['accuracy']):.3f}"
    )
    result = {"what": what, "figure": figure} | {name: spread(values) for name, values in figures.items()}
    save("startup", "python -m benchmarks startup", result)


def _run(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, str(RUN), *arguments], check=True, capture_output=True)
    return time.perf_counter() - start

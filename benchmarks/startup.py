"""Seconds from a command to its first training step, to its help, and to a whole run on the digits.

python -m benchmarks startup
"""

from __future__ import annotations

import argparse
import json
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
    found: dict[str, list[float]] = {"python run.py --help": [], "to the first step": [], "in all": [], "accuracy": []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.rounds):
            found["python run.py --help"].append(_run(["--help"]))
            directory = Path(place) / str(number)
            seconds = _run([*DIGITS, f"hydra.run.dir={directory}", f"seed={number}"])
            result: dict[str, Any] = json.loads((directory / "result.json").read_text())
            found["in all"].append(seconds)
            found["to the first step"].append(seconds - result["train_seconds"])
            found["accuracy"].append(result["best"]["val_accuracy"])
    what = "seconds; 'to the first step' is all but the epochs, so it counts the end of the run too; seeds 0, 1, 2"
    save("startup", "python -m benchmarks startup", {"what": what} | {name: spread(v) for name, v in found.items()})


def _run(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, str(RUN), *arguments], check=True, capture_output=True)
    return time.perf_counter() - start

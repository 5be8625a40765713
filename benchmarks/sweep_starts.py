"""Simultaneous starts of four processes on a fresh study, again and again: crashes, duplicates, totals.

python -m benchmarks sweep_starts
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.common import save
from benchmarks.sweep_runs import start, trials


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep_starts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--trials", type=int, default=12)
    options = parser.parse_args(argv)
    crashes, wrong = 0, []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            common = [f"hydra.sweeper.n_trials={options.trials}", "hydra/sweeper/pruner=none"]
            processes = [start(folder, *common) for _ in range(options.processes)]
            crashes += sum(process.wait() != 0 for process in processes)
            states = [(trial.number, trial.state.name) for trial in trials(folder)]
            if states != [(n, "COMPLETE") for n in range(options.trials)]:
                wrong.append(number)
            print(f"round {number + 1}: {len(states)} trials, {crashes} crashes so far", flush=True)
    result = {
        "what": f"{options.rounds} rounds of {options.processes} processes that start at once, {options.trials} trials",
        "crashes": crashes,
        "rounds with another total, a gap or a duplicate": wrong,
        "figure": f"{crashes} crashes; {len(wrong)} rounds with another total, a gap or a duplicate",
    }
    save("sweep-starts", "python -m benchmarks sweep_starts", result)

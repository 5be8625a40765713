"""Seconds from a trial's last epoch to the next one's start, over a thousand trials of a trivial objective.

python -m benchmarks sweep_overhead
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

from benchmarks.common import save, spread
from benchmarks.sweep_runs import finish, spans, start


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep_overhead", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        finish(start(folder, f"hydra.sweeper.n_trials={options.trials}", "hydra/sweeper/pruner=none"), folder)
        runs = spans(folder)
    gaps = [after["begun"] - before["ended"] for before, after in itertools.pairwise(runs)]
    tenth = max(1, len(gaps) // 10)
    first, last = spread(gaps[:tenth]), spread(gaps[-tenth:])
    result = {
        "what": f"{options.trials} trials, one worker: from the end of one to the start of the next, in seconds",
        "first tenth": first,
        "last tenth": last,
        "slowdown": last["median"] / first["median"],
        "figure": f"{first['median']:.2f} s in the first tenth, {last['median']:.2f} s in the last",
    }
    save("sweep-overhead", "python -m benchmarks sweep_overhead", result)

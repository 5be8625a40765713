"""Seconds to read 1,000 runs of 10 epochs and their study as frames.

python -m benchmarks frames
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from analysis.frames import read
from benchmarks.common import save
from benchmarks.report import make_study


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks frames", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        make_study(Path(place), options.runs, epochs=10)
        begun = time.perf_counter()
        frames = read(place)
        seconds = time.perf_counter() - begun
    assert (len(frames.trials), len(frames.runs)) == (options.runs, options.runs)
    what = f"{options.runs} runs of at most 10 epochs, read with their study"
    save("frames", "python -m benchmarks frames", {"what": what, "seconds": seconds, "figure": f"{seconds:.1f} s"})

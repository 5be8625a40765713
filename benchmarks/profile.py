"""Where the time of an epoch goes: the operations that take the most of it, on the device and on the host.

python -m benchmarks profile                # eager steps; --graph: replayed from a CUDA graph
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity

from benchmarks.paths import endless, random_splits
from cifar.experiment import build_trainer, set_up
from cifar.training.isolation import Isolation

IMAGES = {"cuda": (1024, 256), "cpu": (256, 64)}
"""To train and to validate on in the epoch."""
ROWS = 25


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument("--graph", action="store_true", help="replay the steps from a CUDA graph")
    parser.add_argument("--out", type=Path, help="write it to a file too")
    parser.add_argument("overrides", nargs="*", help="settings of the run, as model=resnet50 batch_size=128")
    options = parser.parse_args(argv)
    if options.graph and not torch.cuda.is_available():
        sys.exit("error: --graph: torch finds no CUDA device here; allowed: without it")
    text = profiled([f"cuda_graph={str(options.graph).lower()}", *options.overrides])
    print(text)
    if options.out:
        options.out.write_text(text + "\n", "utf-8")


def profiled(overrides: list[str]) -> str:
    """Two tables of the second epoch: by time on the device, and by time on the host."""
    config = endless("device=auto", *overrides)
    device = set_up(config)
    is_cuda = device.type == "cuda"
    train, val = IMAGES[device.type]
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with Isolation(device):
        epochs = build_trainer(config, random_splits(train, val), device).epochs()
        next(epochs)
        start = time.perf_counter()
        next(epochs)
        seconds = time.perf_counter() - start
        with torch.profiler.profile(activities=activities) as profiler:
            next(epochs)
    events = profiler.key_averages()
    keys = [*(["self_cuda_time_total"] if is_cuda else []), "self_cpu_time_total"]
    tables = [events.table(sort_by=key, row_limit=ROWS, max_name_column_width=60) for key in keys]
    rate = f"{' '.join(overrides)}: {train / seconds:.0f} images/s in the epoch before the profiled one"
    return "\n\n".join([rate, *tables])

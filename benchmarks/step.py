"""Images per second of single training steps on a CPU: what layout, precision and kept memory are worth.

python -m benchmarks step
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.common import save, spread
from cifar.experiment import keep_freed_memory
from cifar.resnet import BottleneckResNet
from cifar.step import EagerStep, autocast

BATCH = 32


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each variant in a round")
    options = parser.parse_args(argv)
    variants = {
        "fp32": (_steps(torch.contiguous_format, torch.float32), False),
        "fp32, channels_last": (_steps(torch.channels_last, torch.float32), False),
        "bf16, channels_last": (_steps(torch.channels_last, torch.bfloat16), False),
        "bf16, channels_last, freed memory kept": (_steps(torch.channels_last, torch.bfloat16), True),
    }
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name, (step, keep) in variants.items():
            keep_freed_memory(keep)
            step()  # the first after a switch pays for it
            start = time.perf_counter()
            for _ in range(options.steps):
                step()
            if number:  # the first round warms up
                found[name].append(options.steps * BATCH / (time.perf_counter() - start))
    first = spread(found["fp32"])["median"]
    result = {
        "what": f"resnet14, batch {BATCH}, forward, backward and SGD step, {torch.get_num_threads()} threads;"
        " images/s relative to fp32",
        "images_per_second": {name: spread(values) for name, values in found.items()},
        "figure": ", ".join(f"{name}: {spread(values)['median'] / first:.2f}" for name, values in found.items()),
    }
    save("step-cpu", "python -m benchmarks step", result)


def _steps(layout: torch.memory_format, dtype: torch.dtype) -> Callable[[], None]:
    torch.manual_seed(0)
    model = BottleneckResNet([1, 1, 1, 1]).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    step = EagerStep(model, [], 0.0, autocast(torch.device("cpu"), dtype))
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=layout)
    labels = torch.randint(10, (BATCH,))

    def run() -> None:
        step(images, labels)
        optimizer.step()

    return run

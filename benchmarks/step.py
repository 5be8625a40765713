"""Images per second of single training steps on a CPU: what layout, precision and kept memory are worth.

python -m benchmarks step
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch

from benchmarks.common import Remote, save, spread
from cifar.models.resnet import BottleneckResNet
from cifar.training.device import keep_freed_memory
from cifar.training.step import EagerStep, autocast

BATCH = 32
VARIANTS = {
    "fp32": (torch.contiguous_format, torch.float32, False),
    "fp32, channels_last": (torch.channels_last, torch.float32, False),
    "bf16, channels_last": (torch.channels_last, torch.bfloat16, False),
    "bf16, channels_last, freed memory kept": (torch.channels_last, torch.bfloat16, True),
}
"""Layout, precision, whether freed memory is kept; each is measured in a separate process."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each variant in a round")
    options = parser.parse_args(argv)
    variants = {name: Remote(steps, options.steps, *variant) for name, variant in VARIANTS.items()}
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name, variant in variants.items():
            speed = next(variant)
            speeds[name] += [speed] if number else []  # the first round warms up
    for variant in variants.values():
        variant.close()
    first = spread(speeds["fp32"])["median"]
    result = {
        "what": f"resnet14, batch {BATCH}, forward, backward and SGD step, {torch.get_num_threads()} threads;"
        " images/s relative to fp32",
        "images_per_second": {name: spread(values) for name, values in speeds.items()},
        "figure": ", ".join(f"{name}: {spread(values)['median'] / first:.2f}" for name, values in speeds.items()),
    }
    save("step-cpu", "python -m benchmarks step", result)


def steps(count: int, layout: torch.memory_format, dtype: torch.dtype, keep: bool) -> Iterator[float]:
    """Images per second, each value of `count` steps."""
    if keep:
        keep_freed_memory()
    torch.manual_seed(0)
    model = BottleneckResNet([1, 1, 1, 1]).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    step = EagerStep(model, [], 0.0, autocast(torch.device("cpu"), dtype))
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=layout)
    labels = torch.randint(10, (BATCH,))
    while True:
        start = time.perf_counter()
        for _ in range(count):
            step(images, labels)
            optimizer.step()
        yield count * BATCH / (time.perf_counter() - start)

"""Training steps of networks with depthwise convolutions on a CPU: fp32, bf16, and bf16 with these in fp32.

python -m benchmarks depthwise
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from torchvision.models import get_model

from benchmarks.common import Remote, save, spread
from cifar.models import depthwise
from cifar.training.device import keep_freed_memory
from cifar.training.step import EagerStep, autocast

BATCH, PIXELS, ROUNDS, STEPS = 32, 96, 4, 4
NETWORKS = ("efficientnet_b0", "mobilenet_v3_large", "mobilenet_v2", "convnext_tiny")
VARIANTS = {
    "fp32": (torch.float32, False),
    "bf16": (torch.bfloat16, False),
    "bf16, depthwise in fp32": (torch.bfloat16, True),
}
"""Precision, and whether depthwise convolutions are computed in fp32; each is measured in a separate process."""


def main(argv: list[str]) -> None:
    argparse.ArgumentParser(prog="python -m benchmarks depthwise", description=__doc__).parse_args(argv)
    speeds = {network: measured(network) for network in NETWORKS}
    gains = {
        name: speed["bf16, depthwise in fp32"]["median"] / speed["bf16"]["median"] for name, speed in speeds.items()
    }
    result = {
        "what": f"batches of {BATCH} images of {PIXELS} pixels, forward and backward in bf16 on a CPU,"
        f" {torch.get_num_threads()} threads: images/s with depthwise convolutions in fp32, relative to all in bf16",
        "images_per_second": speeds,
        "figure": ", ".join(f"{network} {value:.2f}" for network, value in gains.items()),
    }
    save("depthwise", "python -m benchmarks depthwise", result)


def measured(network: str) -> dict[str, dict[str, float]]:
    """Images per second, in rounds that alternate; the first round warms up."""
    variants = {name: Remote(steps, network, *variant) for name, variant in VARIANTS.items()}
    speeds = [{name: next(variant) for name, variant in variants.items()} for _ in range(ROUNDS + 1)][1:]
    for variant in variants.values():
        variant.close()
    return {name: spread([speed[name] for speed in speeds]) for name in VARIANTS}


def steps(network: str, dtype: torch.dtype, in_fp32: bool) -> Iterator[float]:
    """Images per second, each value of STEPS steps."""
    keep_freed_memory()
    torch.manual_seed(0)
    model = get_model(network, num_classes=10).to(memory_format=torch.channels_last)
    if in_fp32:
        depthwise.compute_in_fp32(model)
    step = EagerStep(model, [], 0.0, autocast(torch.device("cpu"), dtype))
    images = torch.randn(BATCH, 3, PIXELS, PIXELS).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))
    while True:
        start = time.perf_counter()
        for _ in range(STEPS):
            step(images, labels)
        yield STEPS * BATCH / (time.perf_counter() - start)

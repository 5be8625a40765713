"""Time to crop, flip and normalise an image on one thread, against the PIL DataLoader.

python -m benchmarks input
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.utils.data import DataLoader

from benchmarks.common import save, spread
from benchmarks.plain import PIL, transforms
from cifar.data.images import Images
from cifar.data.loader import ImageLoader

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks input", description=__doc__)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    n = options.images
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images = Images(pixels, torch.zeros(n, dtype=torch.int64), ("one", "two"), "")
    batches = ImageLoader(pixels, images.labels, 32, torch.device("cpu"), MEAN, STD, crop=4, flip=True, seed=0)
    loader = DataLoader(PIL(images, transforms(MEAN, STD)[0]), 32, shuffle=True)
    ours, theirs = [], []
    for number in range(1, options.rounds + 2):
        start = time.perf_counter()
        for _ in batches.epoch(number):
            pass
        middle = time.perf_counter()
        for _ in loader:
            pass
        ours.append((middle - start) / n * 1e6)
        theirs.append((time.perf_counter() - middle) / n * 1e6)
    ours, theirs = ours[1:], theirs[1:]  # the first round warms up
    result = {
        "what": f"crop, flip and normalise an image on one thread, against the PIL DataLoader ({n} images)",
        "microseconds": {"this project": spread(ours), "PIL DataLoader": spread(theirs)},
        "figure": f"{statistics.median(ours):.1f} us against {statistics.median(theirs):.0f} us:"
        f" {statistics.median(b / a for a, b in zip(ours, theirs, strict=True)):.1f} times",
    }
    save("input", "python -m benchmarks input", result)

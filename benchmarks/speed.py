"""Images per second of whole epochs (training and validation) against the plain loop, in alternation.

python -m benchmarks speed --data DIR        # DIR/train/<class>/*; --plain FILE also runs another plain loop
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.common import save, settings, spread
from benchmarks.plain import PlainLoop, resnet
from cifar.experiment import build_trainer, load_parts, set_up


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("--data", required=True, help="a directory with train/<class>/*")
    parser.add_argument("--train", type=int, default=2048, help="training images")
    parser.add_argument("--val", type=int, default=1024, help="validation images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    config = settings(
        "data=image_folder",
        f"data.root={options.data}",
        f"data.limit={options.train + options.val}",
        f"data.val_size={options.val}",
        "epochs=1000",
    )
    device = set_up(config)
    parts = load_parts(config)
    epochs = build_trainer(config, parts, device).epochs()
    torch.manual_seed(0)
    plain = PlainLoop(parts.train, parts.val, resnet([1, 1, 1, 1], 64, 10), device.type, config.optimizer.lr)
    next(epochs), plain.epoch()  # start-up: workers, kernels, caches
    ours, theirs = [], []
    for _ in range(options.rounds):
        theirs.append(options.train / plain.epoch()[0])
        ours.append(next(epochs).images_per_second)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    result = {
        "what": f"resnet14, batch 32, {options.train} training and {options.val} validation images, whole epochs",
        "images_per_second": {"this project": spread(ours), "plain loop": spread(theirs)},
        "ratio": spread(ratios),
        "figure": f"{statistics.median(ours):.0f} images/s against {statistics.median(theirs):.0f}:"
        f" {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
    }
    save(f"speed-{device.type}", "python -m benchmarks speed --data DIR", result)

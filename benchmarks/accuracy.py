"""Validation accuracy against the plain loop: same recipe, same images, several seeds each, in alternation.

python -m benchmarks accuracy --data DIR        # DIR/train/<class>/*
"""

from __future__ import annotations

import argparse
import statistics

import torch
from scipy import stats

from benchmarks.common import save
from benchmarks.plain import PlainLoop
from cifar.compose import composed
from cifar.experiment import build_trainer, load_splits, set_up
from cifar.models.resnet import BottleneckResNet

DEPTHS = [1, 1, 1, 1]
"""Of model=resnet14."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=__doc__)
    parser.add_argument("--data", required=True, help="a directory with train/<class>/*")
    parser.add_argument("--images", type=int, default=8000, help="training and validation images together")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args(argv)
    ours, theirs = [], []
    for seed in range(options.seeds):
        config = composed(
            "data=image_folder",
            f"data.root={options.data}",
            f"data.limit={options.images}",
            "data.val_size=0.25",
            "model=resnet14",
            f"model.width={options.width}",
            f"epochs={options.epochs}",
            f"seed={seed}",
        )
        device = set_up(config)
        splits = load_splits(config)
        ours.append([metrics.val_accuracy for metrics in build_trainer(config, splits, device).epochs()])
        torch.manual_seed(seed)
        net = BottleneckResNet(DEPTHS, options.width, len(splits.train.classes))
        plain = PlainLoop(splits.train, splits.val, net, device.type, config.optimizer.lr, seed)
        theirs.append([plain.epoch()[1] for _ in range(options.epochs)])
        print(f"seed {seed}: this project {ours[-1]}, plain loop {theirs[-1]}", flush=True)
    save("accuracy", "python -m benchmarks accuracy --data DIR", _result(options, ours, theirs))


def _result(options: argparse.Namespace, ours: list[list[float]], theirs: list[list[float]]) -> dict[str, object]:
    """The last epochs' accuracies, their difference and its 95% interval (Welch's t)."""
    a, b = [run[-1] for run in ours], [run[-1] for run in theirs]
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return {
        "what": f"resnet14 of width {options.width}, {options.images} images, a quarter of them for validation,"
        f" {options.epochs} epochs, {options.seeds} seeds each; validation accuracy after the last",
        "this project": {"mean": statistics.mean(a), "sd": statistics.stdev(a), "all": a},
        "plain loop": {"mean": statistics.mean(b), "sd": statistics.stdev(b), "all": b},
        "figure": f"{statistics.mean(a):.3f} (sd {statistics.stdev(a):.3f}) against {statistics.mean(b):.3f}"
        f" (sd {statistics.stdev(b):.3f}); 95% interval of the difference {interval.low:+.3f} to {interval.high:+.3f}",
    }

"""Images per second of whole epochs (training and validation) against the plain loop, in alternation.

python -m benchmarks speed --data DIR        # DIR/train/<class>/*; --plain FILE also runs another plain loop
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator

import torch

from benchmarks.common import Remote, save, spread
from benchmarks.plain import PlainLoop, resnet
from cifar.compose import composed
from cifar.data.split import Splits
from cifar.experiment import build_trainer, load_splits, set_up
from cifar.options.config import Config


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("--data", required=True, help="a directory with train/<class>/*")
    parser.add_argument("--train", type=int, default=2048, help="training images")
    parser.add_argument("--val", type=int, default=1024, help="validation images")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    ours, theirs = Remote(project, options), Remote(plain, options)
    next(ours)  # the first epoch includes the start-up of workers, kernels and caches
    next(theirs)
    rounds = [(next(theirs), next(ours)) for _ in range(options.rounds)]
    ours.close()
    theirs.close()
    slow = [plain_speed for plain_speed, _ in rounds]
    fast = [project_speed for _, project_speed in rounds]
    ratios = [project_speed / plain_speed for plain_speed, project_speed in rounds]
    result = {
        "what": f"resnet14, batch 32, whole epochs of {options.train} training and {options.val} validation images,"
        " against the plain fp32 loop",
        "images_per_second": {"this project": spread(fast), "plain loop": spread(slow)},
        "ratio": spread(ratios),
        "figure": f"{statistics.median(fast):.0f} images/s against {statistics.median(slow):.0f}:"
        f" {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    save(f"speed-{device}", "python -m benchmarks speed --data DIR", result)


def _prepare(options: argparse.Namespace) -> tuple[Config, Splits]:
    config = composed(
        "data=image_folder",
        f"data.root={options.data}",
        f"data.limit={options.train + options.val}",
        f"data.val_size={options.val}",
        "epochs=1000",
    )
    return config, load_splits(config)


def project(options: argparse.Namespace) -> Iterator[float]:
    """Images per second of each epoch of `python run.py`."""
    config, splits = _prepare(options)
    for metrics in build_trainer(config, splits, set_up(config)).epochs():
        yield metrics.images_per_second


def plain(options: argparse.Namespace) -> Iterator[float]:
    """Images per second of each epoch of the plain loop, in a process without the project's settings."""
    config, splits = _prepare(options)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loop = PlainLoop(splits.train, splits.val, resnet([1, 1, 1, 1], 64, 10), device, config.optimizer.lr)
    while True:
        yield options.train / loop.epoch()[0]

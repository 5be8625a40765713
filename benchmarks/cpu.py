"""What static buffers and runs in turns cost on a CPU: images per second against the plain path, in alternation.

python -m benchmarks cpu
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from benchmarks.common import Remote, save, spread
from benchmarks.paths import as_it_is, endless, in_turns, one_run, plain_loop, random_splits, with_static_buffers

EAGER = "eager step"
WAYS: dict[str, Callable[..., Iterator[float]]] = {
    "plain loop, fp32": partial(plain_loop, amp=False),
    EAGER: partial(one_run, prepare=as_it_is),
    "static buffers": partial(one_run, prepare=with_static_buffers),
    **{f"{runs} in turns": partial(in_turns, runs=runs) for runs in (1, 2, 4)},
}
"""Each is measured in a separate process."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks cpu", description=__doc__)
    parser.add_argument("--train", type=int, default=256, help="training images")
    parser.add_argument("--val", type=int, default=128, help="validation images")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("overrides", nargs="*", default=[], help="settings, as model.width=16")
    options = parser.parse_args(argv)
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    with ExitStack() as opened:
        ways = {name: opened.enter_context(closing(Remote(epochs, options, way))) for name, way in WAYS.items()}
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                speed = next(way)
                speeds[name] += [speed] if number else []  # the first round warms up
    name = "-".join(["cpu", *(override.replace("=", "") for override in options.overrides)])
    save(name, " ".join(["python -m benchmarks cpu", *options.overrides]), _result(options, speeds))


def epochs(options: argparse.Namespace, way: Callable[..., Iterator[float]]) -> Iterator[float]:
    return way(random_splits(options.train, options.val), endless("device=cpu", *options.overrides))


def _result(options: argparse.Namespace, speeds: dict[str, list[float]]) -> dict[str, Any]:
    """Ratios are of two values of the same round."""
    ratios = {}
    for name, values in speeds.items():
        ratios[name] = spread([value / eager for value, eager in zip(values, speeds[EAGER], strict=True)])
    shown = ", ".join(f"{name} {ratio['median']:.3f}" for name, ratio in ratios.items() if name != EAGER)
    what = " ".join(["resnet14, batch 32", *options.overrides])
    return {
        "what": f"{what}, on a CPU, whole epochs of {options.train} training and {options.val} validation images:"
        " images/s, all runs together, relative to one run with the eager step",
        "images_per_second": {name: spread(values) for name, values in speeds.items()},
        "relative to the eager step": ratios,
        "figure": shown,
    }

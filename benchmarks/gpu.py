"""The speed of the recipe on a GPU: the plain loop, eager steps, graphs, a compiled model, and runs in turns.

python -m benchmarks gpu --data DIR        # DIR/train/<class>/*: trains the default recipe too
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # it is not in __all__

from benchmarks.common import Remote, save, spread
from benchmarks.paths import as_it_is, endless, in_turns, one_run, plain_loop, random_splits
from cifar.compose import composed
from cifar.experiment import build_trainer, load_splits, set_up
from cifar.training.isolation import Isolation

TRAIN, VAL = 4096, 512
ROUNDS = 3
RECIPE = (45_000, 10)
"""Images of an epoch and epochs of the default recipe."""
TARGETS = [("resnet14", 32), ("resnet50", 32)]
OTHERS = [("resnet26", 32), *((model, batch) for batch in (128, 512) for model in ("resnet14", "resnet26", "resnet50"))]
PLAIN, GRAPH, TIMED, COMPILED = "plain loop, bf16", "graph", "graph, deterministic=false", "graph, compiled"
WAYS: dict[str, Callable[..., Iterator[float]]] = {
    "plain loop, fp32": partial(plain_loop, amp=False),
    PLAIN: partial(plain_loop, amp=True),
    "eager step": partial(one_run, prepare=as_it_is),
    GRAPH: partial(one_run, prepare=as_it_is),
    TIMED: partial(one_run, prepare=as_it_is),
    COMPILED: partial(one_run, prepare=as_it_is),
}
SETTINGS = {
    GRAPH: ["cuda_graph=true"],
    TIMED: ["cuda_graph=true", "deterministic=false"],
    COMPILED: ["cuda_graph=true", "compile=true"],
}
TURNS = (1, 8, 4, 16, 2)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--data", help="a directory with train/<class>/*")
    parser.add_argument("--minutes", type=float, default=5.5, help="start no new measurement after so many minutes")
    parser.add_argument("--compile", action="store_true", help="a compiled model too: up to a minute for each shape")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("python -m benchmarks gpu measures a CUDA device, and torch finds none here.")
    until = time.monotonic() + 60 * options.minutes
    cases, turns, recipe = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, Any]()
    with ExitStack() as opened:
        names = [name for name in WAYS if options.compile or name != COMPILED]
        ways = {name: opened.enter_context(closing(Remote(_measured, name))) for name in names}
        with surviving:
            cases += _compare(ways, TARGETS, until)
        with surviving:
            turns += (_in_turns(runs) for runs in _while_there_is_time(TURNS, until))
        with surviving:
            recipe |= _recipe(options.data) if options.data and time.monotonic() < until else {}
        with surviving:
            cases += _compare(ways, OTHERS, until)
    result = _result(cases, turns, recipe)
    save("gpu", f"python -m benchmarks gpu{' --data DIR' if options.data else ''}", result)
    print("\n".join(_table(cases, turns)))


surviving = suppress(EOFError, OSError)
"""A process that dies has printed its error; the other measurements are kept."""


def _while_there_is_time(items: Iterable[Any], until: float) -> Iterator[Any]:
    for item in items:
        if time.monotonic() > until:
            print(f"left out, no time is left: {item}", flush=True)
        else:
            yield item


def _compare(ways: dict[str, Remote], cases: list[tuple[str, int]], until: float) -> Iterator[dict[str, Any]]:
    """Rows of a model, a batch size and a way; ways in alternation, after a round that warms up."""
    for model, batch in _while_there_is_time(cases, until):
        rounds = [{name: next(way) for name, way in ways.items()} for _ in range(ROUNDS + 1)][1:]
        for name, way in ways.items():
            speeds = [speed[name] for speed in rounds]
            ratios = [speed[name] / speed[PLAIN] for speed in rounds]
            row = {"model": model, "batch": batch, "way": name, "images_per_second": spread(speeds)}
            row |= {"relative to the plain loop, bf16": spread(ratios), "peak_memory_gb": next(way)}
            row |= {"seconds_per_epoch": RECIPE[0] / row["images_per_second"]["median"], "busy": next(way)}
            if not math.isnan(row["busy"]):  # the last value of a case, so the case did not fail
                print(row, flush=True)
                yield row


def _measured(name: str) -> Iterator[float]:
    """The values of each case. A case that fails (most likely out of memory) is printed and gives nan from there on."""
    for model, batch in [*TARGETS, *OTHERS]:
        config = endless("device=cuda", f"model={model}", f"batch_size={batch}", *SETTINGS.get(name, []))
        values = _case(WAYS[name](random_splits(TRAIN, VAL), config))
        for _ in range(ROUNDS + 3):
            try:
                value = next(values, math.nan)
            except RuntimeError as error:
                print(f"{name}, {model}, batch {batch}: {error}", flush=True)
                value = math.nan
            yield value
        del values


def _case(epochs: Iterator[float]) -> Iterator[float]:
    """Images per second of each round, then the peak of reserved memory in GB, then the share of time that is busy."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(ROUNDS + 1):
        yield next(epochs)
    yield torch.cuda.max_memory_reserved() / 1e9
    yield busy(partial(next, epochs))


def busy(work: Callable[[], object]) -> float:
    """The share of the time of `work` in which the GPU computes, by torch's profiler, which slows the launches down.

    0 where the profiler sees none of it.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    events: Any = profiler.profiler.kineto_results.events()  # profiler.events() takes minutes for a million
    kernels = [e for e in events if e.device_type() == DeviceType.CUDA and not e.is_user_annotation()]
    spans = sorted((kernel.start_ns(), kernel.end_ns()) for kernel in kernels)
    if not spans:
        return 0.0
    computing, reached = 0, spans[0][0]
    for start, end in spans:
        computing += max(0, end - max(start, reached))
        reached = max(reached, end)
    return computing / (reached - spans[0][0])


def _in_turns(runs: int) -> dict[str, Any]:
    """`runs` runs of resnet14 at batch 32 with graphs."""
    with closing(Remote(_epochs_in_turns, runs)) as remote:
        speeds = [next(remote) for _ in range(ROUNDS + 1)][1:]
        row = {"runs": runs, "images_per_second": spread(speeds), "peak_memory_gb": next(remote), "busy": next(remote)}
    row["trials_per_hour"] = _hourly(row)
    print(row, flush=True)
    return row


def _epochs_in_turns(runs: int) -> Iterator[float]:
    with closing(in_turns(random_splits(TRAIN, VAL), endless("device=cuda", "cuda_graph=true"), runs)) as epochs:
        yield from _case(epochs)


def _recipe(data: str) -> dict[str, Any]:
    """The default recipe on all images: seconds of all epochs, and of those up to the best accuracy."""
    with closing(Remote(_recipe_epochs, data)) as remote:
        epochs = [(next(remote), next(remote)) for _ in range(RECIPE[1])]
    best = max(range(len(epochs)), key=lambda epoch: epochs[epoch][1])
    return {
        "seconds": sum(seconds for seconds, _ in epochs),
        "val_accuracy": epochs[best][1],
        "seconds_to_it": sum(seconds for seconds, _ in epochs[: best + 1]),
        "epochs": [{"seconds": seconds, "val_accuracy": accuracy} for seconds, accuracy in epochs],
    }


def _recipe_epochs(data: str) -> Iterator[float]:
    config = composed("data=image_folder", f"data.root={data}", "device=cuda", "cuda_graph=true")
    device = set_up(config)
    with Isolation(device):
        for metrics in build_trainer(config, load_splits(config), device).epochs():
            yield metrics.seconds
            yield metrics.val_accuracy


def _result(cases: list[dict[str, Any]], turns: list[dict[str, Any]], recipe: dict[str, Any]) -> dict[str, Any]:
    gains = [
        f"{row['model']} {row['relative to the plain loop, bf16']['median']:.1f} times the plain loop in bf16"
        f" ({row['images_per_second']['median']:.0f} images/s, GPU busy {row['busy']:.0%})"
        for row in cases
        if row["way"] == GRAPH and (row["model"], row["batch"]) in TARGETS
    ]
    plain = [f"plain loop, bf16: {_hourly(row):.0f}" for row in cases if row["way"] == PLAIN][:1]
    hourly = [f"{row['runs']}: {row['trials_per_hour']:.0f}" for row in turns]
    whole = f"the recipe's {RECIPE[1]} epochs {recipe['seconds']:.1f} s, {recipe['val_accuracy']:.4f}" if recipe else ""
    by_runs = f"trials per hour {', '.join([*plain, *hourly])}" if hourly else ""
    return {
        "what": "batch 32, bf16, steps replayed from CUDA graphs; trials per hour by runs at once",
        "cases": cases,
        "in turns": turns,
        "recipe": recipe,
        "figure": "; ".join(filter(None, [*gains, by_runs, whole])),
    }


def _hourly(row: dict[str, Any]) -> float:
    """Trials of the default recipe."""
    images, epochs = RECIPE
    return 3600 * float(row["images_per_second"]["median"]) / (images * epochs)


def _table(cases: list[dict[str, Any]], turns: list[dict[str, Any]]) -> Iterator[str]:
    """All figures as Markdown."""
    yield "| model | batch | way | images/s | s an epoch | times the plain loop, bf16 | GPU busy | peak GB |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in cases:
        speed, ratio = row["images_per_second"]["median"], row["relative to the plain loop, bf16"]["median"]
        yield (
            f"| {row['model']} | {row['batch']} | {row['way']} | {speed:.0f} | {row['seconds_per_epoch']:.2f}"
            f" | {ratio:.2f} | {row['busy']:.0%} | {row['peak_memory_gb']:.1f} |"
        )
    yield ""
    yield "| runs in turns | images/s | trials/hour | GPU busy | peak GB |"
    yield "|---|---|---|---|---|"
    for row in turns:
        speed, memory = row["images_per_second"]["median"], row["peak_memory_gb"]
        yield f"| {row['runs']} | {speed:.0f} | {row['trials_per_hour']:.0f} | {row['busy']:.0%} | {memory:.1f} |"

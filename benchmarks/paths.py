"""The ways to train that benchmarks compare, on random images: the plain loop, one run, and several runs in turns.

Each is an iterator of images per second: one value an epoch (training and validation).
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial

import torch

from benchmarks.plain import PlainLoop, resnet
from cifar.compose import composed
from cifar.data.images import Images
from cifar.data.split import Splits
from cifar.experiment import build_trainer, set_up
from cifar.options.config import Config
from cifar.options.model import BottleneckResNet
from cifar.sweep.lockstep import Lockstep
from cifar.training.isolation import Isolation
from cifar.training.step import EagerScore, EagerStep, Static, StaticStep
from cifar.training.threads import pinned
from cifar.training.trainer import Trainer

CLASSES = tuple("0123456789")


def random_splits(train: int, val: int) -> Splits:
    """`train` and `val` random images: the speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (train + val, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(len(CLASSES), (train + val,), generator=generator)
    first = Images(images[:train], labels[:train], CLASSES, "random training images")
    rest = Images(images[train:], labels[train:], CLASSES, "random validation images")
    return Splits(first, rest, mean=[0.5] * 3, std=[0.25] * 3)


def endless(*overrides: str) -> Config:
    """The settings of a run with more epochs than any benchmark waits for."""
    return composed(
        "data=digits", "augment.crop=4", "augment.flip=true", "epochs=100000", "scheduler=constant", *overrides
    )


def plain_loop(splits: Splits, config: Config, amp: bool) -> Iterator[float]:
    """The loop that a user would write without this project; `amp`: in bf16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert isinstance(config.model, BottleneckResNet)
    net = resnet(config.model.depths, config.model.width, len(CLASSES))
    workers = min(8, os.cpu_count() or 1)
    loop = PlainLoop(splits.train, splits.val, net, device, config.optimizer.lr, 0, workers, amp, config.batch_size)
    while True:
        yield len(splits.train) / loop.epoch()[0]


def one_run(splits: Splits, config: Config, prepare: Callable[[Trainer], Trainer]) -> Iterator[float]:
    """One run as run.py trains it; `prepare` may change its trainer."""
    device = set_up(config)
    with Isolation(device):
        trainer = prepare(build_trainer(config, splits, device))
        with pinned():
            for metrics in trainer.epochs():
                yield metrics.images_per_second


def as_it_is(trainer: Trainer) -> Trainer:
    return trainer


def with_static_buffers(trainer: Trainer) -> Trainer:
    """The trainer with the static buffers of a CUDA graph, without the graph."""
    assert isinstance(trainer.step, EagerStep) and isinstance(trainer.score, EagerScore)
    return dataclasses.replace(trainer, step=StaticStep(trainer.step), score=Static(trainer.score))


def in_turns(splits: Splits, config: Config, runs: int) -> Generator[float, None, None]:
    """`runs` runs in lockstep: images per second of all of them together."""
    device = set_up(config)
    epoch_begins = threading.Barrier(runs + 1)
    epoch_ends = threading.Barrier(runs + 1)

    def serve() -> None:
        lockstep.set_capacity(runs)
        try:
            with suppress(threading.BrokenBarrierError), Isolation(device) as isolation:
                trainer = build_trainer(config, splits, device)
                epochs = trainer.epochs(partial(paused, isolation, lockstep.yield_control))
                while True:
                    paused(isolation, partial(lockstep.run_in_background, epoch_begins.wait))
                    next(epochs)
                    paused(isolation, partial(lockstep.run_in_background, epoch_ends.wait))
        finally:
            epoch_begins.abort()  # after a failed run the others must not wait for it
            epoch_ends.abort()

    def paused(isolation: Isolation, work: Callable[[], None]) -> None:
        with isolation.paused():
            work()

    lockstep = Lockstep(runs, serve)
    thread = threading.Thread(target=lockstep.run, daemon=True)
    thread.start()
    try:
        while True:
            epoch_begins.wait()
            start = time.perf_counter()
            epoch_ends.wait()
            yield runs * len(splits.train) / (time.perf_counter() - start)
    finally:
        epoch_begins.abort()
        thread.join()

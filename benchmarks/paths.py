"""The ways to train that benchmarks compare, on random images: the plain loop, one run, and several runs in turns.

Each is an iterator of images per second, an epoch (training and validation) a value.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import partial

import torch

from benchmarks.common import settings
from benchmarks.plain import PlainLoop, resnet
from cifar.data.images import Images
from cifar.experiment import Splits, build_trainer, set_up
from cifar.options.config import Config
from cifar.sweep.lockstep import Lockstep
from cifar.training.isolation import Isolation
from cifar.training.step import EagerScore, EagerStep, Static, StaticStep
from cifar.training.trainer import Trainer

CLASSES = tuple("0123456789")


def random_parts(train: int, val: int) -> Splits:
    """So many images: their content does not change the speed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (train + val, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(len(CLASSES), (train + val,), generator=generator)
    first, rest = (Images(images[part], labels[part], CLASSES, "random") for part in (slice(train), slice(train, None)))
    return Splits(first, rest, mean=[0.5] * 3, std=[0.25] * 3)


def endless(*overrides: str) -> Config:
    """The settings of a run that does not end by itself."""
    return settings("data=digits", "data.crop=4", "data.flip=true", "epochs=100000", "scheduler=constant", *overrides)


def plain_loop(parts: Splits, config: Config, amp: bool) -> Iterator[float]:
    """The loop that a user would otherwise write; `amp`: in bf16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = resnet(config.model.depths, config.model.width, len(CLASSES))
    workers = min(8, os.cpu_count() or 1)
    loop = PlainLoop(parts.train, parts.val, net, device, config.optimizer.lr, 0, workers, amp, config.batch_size)
    while True:
        yield len(parts.train) / loop.epoch()[0]


def one_run(parts: Splits, config: Config, prepare: Callable[[Trainer], Trainer]) -> Iterator[float]:
    """One run as run.py makes it, its trainer changed by `prepare`."""
    device = set_up(config)
    with Isolation(device):
        for metrics in prepare(build_trainer(config, parts, device)).epochs():
            yield metrics.images_per_second


def as_it_is(trainer: Trainer) -> Trainer:
    return trainer


def with_static_buffers(trainer: Trainer) -> Trainer:
    """What a graph is replayed on, without the graph."""
    assert isinstance(trainer.step, EagerStep) and isinstance(trainer.score, EagerScore)
    trainer.step, trainer.score = StaticStep(trainer.step), Static(trainer.score)
    return trainer


def in_turns(parts: Splits, config: Config, runs: int) -> Generator[float, None, None]:
    """So many runs in lockstep: images per second of all of them together."""
    device = set_up(config)
    begin, end = threading.Barrier(runs + 1), threading.Barrier(runs + 1)

    def serve() -> None:
        lockstep.set_capacity(runs)
        try:
            with suppress(threading.BrokenBarrierError), Isolation(device) as isolation:
                trainer = build_trainer(config, parts, device)
                trainer.after_step = partial(paused, isolation, lockstep.yield_control)
                epochs = trainer.epochs()
                while True:
                    paused(isolation, partial(lockstep.run_in_background, begin.wait))
                    next(epochs)
                    paused(isolation, partial(lockstep.run_in_background, end.wait))
        finally:
            begin.abort()  # nobody is to wait for a run that has failed
            end.abort()

    def paused(isolation: Isolation, work: Callable[[], None]) -> None:
        with isolation.paused():
            work()

    lockstep = Lockstep(runs, serve)
    together = threading.Thread(target=lockstep.run, daemon=True)
    together.start()
    try:
        while True:
            begin.wait()
            begun = time.perf_counter()
            end.wait()
            yield runs * len(parts.train) / (time.perf_counter() - begun)
    finally:
        begin.abort()
        together.join()

"""How many training steps fit into a time: the pace of a trainer, measured in a few steps, and the steps of a plan."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cifar.data.loader import EpochLoader
from cifar.models.dry_run import unchanged_generators
from cifar.training.device import wait
from cifar.training.trainer import AfterStep, Trainer, no_callback

WARM_UP = 2
"""Steps that are not measured, where there is time for two."""
FEW = 20
"""Steps, and validation batches, that are measured at most."""
TOLERANCE = 0.015
"""The share of a time by which a plan may miss it so that its last epoch is a whole one."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step, and of what an epoch has besides: validation and saving."""

    step: float
    epoch: float

    def of_epoch(self, batches: int) -> float:
        """Seconds of an epoch of so many batches."""
        return self.step * batches + self.epoch


def steps_left(seconds: float, pace: Pace, batches: int, into: int = 0, tolerance: float = 0.0) -> int:
    """Training steps that fit into so many seconds, 1 or more, where `into` steps of an epoch of `batches` are done.

    The last epoch is a whole one where that ends within `tolerance` seconds.
    """
    whole = pace.of_epoch(batches)
    available = max(seconds + into * pace.step, 0.0)
    nearest = round(available / whole)
    if nearest * batches > into and abs(nearest * whole - available) <= tolerance:
        return nearest * batches - into
    epochs = int(available / whole)
    rest = available - epochs * whole - pace.epoch
    part = min(max(int(rest / pace.step), 0), batches)
    return max(epochs * batches + part - into, 1)


def measure(trainer: Trainer, most: float, after_batch: AfterStep = no_callback) -> Pace:
    """The pace of a trainer: steps for at most `most` seconds, validation for a quarter of that, two batches at least.

    It is as if nothing had been measured. `after_batch` is called after each step and each batch that was validated.

    The first step is never part of the measure: it chooses kernels, compiles and captures.
    """
    with unchanged(trainer):
        step = _seconds(trainer, trainer.train, most, after_batch, training=True)
        score = _seconds(trainer, trainer.val, most / 4, after_batch, training=False)
    return Pace(step, score * len(trainer.val))


def _seconds(trainer: Trainer, batches: EpochLoader, most: float, after_batch: AfterStep, training: bool) -> float:
    """The mean seconds of a training step, or of the scoring of a batch."""
    clock, device = trainer.clock, trainer.train.labels.device
    (trainer.step if training else trainer.score).model.train(training)
    compute = trainer.train_on if training else trainer.score
    start = since = clock()
    warm = number = 0
    for number, (images, labels) in enumerate(_endless(batches), 1):
        with torch.inference_mode(not training):
            compute(images, labels)
        after_batch()
        is_late = clock() - start > most
        if number == 1 or (number <= WARM_UP and not is_late):
            wait(device)
            warm, since = number, clock()
        elif is_late or number == warm + FEW:
            break
    wait(device)
    return (clock() - since) / (number - warm)


def _endless(batches: EpochLoader) -> Iterator[tuple[Tensor, Tensor]]:
    return itertools.chain.from_iterable(batches.epoch(1) for _ in itertools.repeat(None))


@contextmanager
def unchanged(trainer: Trainer) -> Iterator[None]:
    """A block after which a trainer is as it was: weights, buffers, optimizer, average, schedule, random generators."""
    state = copy.deepcopy(trainer.state_dict())
    networks = {trainer.model, trainer.measured}
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    with unchanged_generators():
        yield
    trainer.load_state_dict(state)
    with torch.no_grad():
        for buffer, before in buffers:  # a state leaves out those that are not persistent
            buffer.copy_(before)

"""What the host does for a replayed step: its time, where the replay itself does nothing and the parameters are tiny.

python -m benchmarks host        # on the CPU: what Python and the launches cost, which a GPU would have to wait for
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.common import save, spread
from benchmarks.paths import CLASSES, endless, random_splits
from cifar.experiment import build_trainer, set_up
from cifar.training.isolation import Isolation
from cifar.training.step import Compute, EagerScore, EagerStep, Static, StaticStep
from cifar.training.threads import pinned
from cifar.training.trainer import Trainer

STEPS, BATCH, ROUNDS = 512, 2, 7
TARGET = 100
"""Microseconds, for the optimizers that update all parameters in one kernel."""
CASES = {
    "sgd": [],
    "adam": ["optimizer=adam"],
    "adamw": ["optimizer=adamw"],
    "sgd, clip_norm": ["optimizer.clip_norm=1"],
    "sgd, ema": ["ema.decay=0.99"],
    "sgd, onecycle": ["scheduler=onecycle"],
    "sgd, trivial, mixup": ["augment=trivial", "augment.mixup=0.2"],
    "rmsprop": ["optimizer=rmsprop"],
}
"""All with resnet14, of which the parameters are made tiny; the last one has no fused kernel."""


def main(argv: list[str]) -> None:
    argparse.ArgumentParser(prog="python -m benchmarks host", description=__doc__).parse_args(argv)
    micros = {name: spread([1e6 * seconds for seconds in measured(overrides)]) for name, overrides in CASES.items()}
    figure = ", ".join(f"{name} {value['median']:.0f} us" for name, value in micros.items())
    save(
        "host",
        "python -m benchmarks host",
        {
            "what": "time of the host for a step of resnet14 whose replay does nothing, parameters of one number each",
            "figure": figure,
            "microseconds": micros,
            "target": TARGET,
        },
    )


def measured(overrides: list[str]) -> list[float]:
    """Seconds a step, of each of ROUNDS epochs after one that warms up."""
    config = endless("device=cpu", "threads=1", "precision=fp32", f"batch_size={BATCH}", *overrides)
    device = set_up(config)
    with Isolation(device), pinned():
        trainer = build_trainer(config, random_splits(STEPS * BATCH, BATCH), device)
        shrink(trainer)
        seconds = []
        for number in range(1, ROUNDS + 2):
            start = time.perf_counter()
            trainer.launch(number)
            seconds.append((time.perf_counter() - start) / STEPS)
    return seconds[1:]


def shrink(trainer: Trainer) -> None:
    """Make every parameter one number, with a gradient, and have the steps and the validation compute nothing."""
    for parameter in trainer.model.parameters():
        parameter.data = torch.zeros(1)
        parameter.grad = torch.ones(1)
    for parameter in trainer.measured.parameters():
        parameter.data = torch.zeros(1)
    assert isinstance(trainer.step, EagerStep) and isinstance(trainer.score, EagerScore)
    loss, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    confusion, logits = torch.zeros(len(CLASSES) ** 2, dtype=torch.int64), torch.zeros(BATCH, len(CLASSES))
    trainer.step = StaticStep(trainer.step, partial(no_replay, (loss, correct)))
    trainer.score = Static(trainer.score, partial(no_replay, (loss, confusion, logits)))


def no_replay(outputs: tuple[Tensor, ...], compute: Compute, model: nn.Module) -> Compute:
    """A Capture whose replay does nothing, and returns these tensors."""

    def replay() -> tuple[Tensor, ...]:
        return outputs

    return replay

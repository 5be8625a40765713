"""The epoch loop: a generator of EpochMetrics. Whoever iterates records, reports, prunes and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cifar.data.loader import EpochLoader
from cifar.reporting import Diverged, EpochMetrics
from cifar.training import checkpoint
from cifar.training.schedulers import Schedule
from cifar.training.step import EagerScore, EagerStep, Static


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy, nats · confusion int64 (K, K): images by true class (rows) and predicted class."""

    loss: float
    confusion: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Evaluation:
        """From what evaluate() computed; waits for the device."""
        loss, *counts = values.tolist()
        side = math.isqrt(len(counts))
        return cls(loss, torch.tensor(counts, dtype=torch.int64).reshape(side, side))

    @property
    def accuracy(self) -> float:
        """Share of 1."""
        return int(self.confusion.trace()) / int(self.confusion.sum())


@torch.inference_mode()
def evaluate(score: EagerScore | Static, batches: EpochLoader) -> Tensor:
    """The fields of an Evaluation of score.model in eval mode, in a row, float64 (1 + K * K,), on the device."""
    score.model.eval()
    device = batches.labels.device
    loss, confusion = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in batches.epoch(1):
        cross_entropy, counts = score(images, labels)
        loss, confusion = loss + cross_entropy, confusion + counts
    return torch.cat([(loss / batches.total).double()[None], confusion.double()])


@dataclass
class Trainer:
    """Trains `model` for `total` epochs in all; `done` of them are behind it.

    `after_step` is called after every step and may raise to stop there; `progress` wraps an epoch's batches (a bar).
    """

    model: nn.Module
    train: EpochLoader
    val: EpochLoader
    optimizer: Optimizer
    schedule: Schedule
    step: EagerStep | Static
    score: EagerScore | Static
    total: int
    after_step: Callable[[], None] = _nothing
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
    done: int = 0
    validated: Evaluation | None = None
    """Of the last epoch."""

    def epochs(self) -> Iterator[EpochMetrics]:
        """Train an epoch, yield its metrics, and so on to `total`. Raises Diverged where a loss is not finite."""
        while self.done < self.total:
            metrics = self._epoch(self.done + 1)
            self.schedule.epoch(metrics.val_accuracy)
            self.done = metrics.epoch
            yield metrics

    def _epoch(self, number: int) -> EpochMetrics:
        start = time.perf_counter()
        found, lr = self.launch(number)
        found = found.cpu()  # waits for the device, once
        (train_loss, right), val = found[:2].tolist(), Evaluation.of(found[2:])
        if not (math.isfinite(train_loss) and math.isfinite(val.loss)):
            raise Diverged(
                f"the loss is not finite in epoch {number} (training {train_loss}, validation {val.loss}) at lr {lr:g}:"
                " most likely the learning rate is too high; try a third of it, or precision=fp32"
            )
        self.validated = val
        n, seconds = self.train.total, time.perf_counter() - start
        return EpochMetrics(
            epoch=number,
            train_loss=train_loss / n,
            train_accuracy=right / n,
            val_loss=val.loss,
            val_accuracy=val.accuracy,
            lr=lr,
            seconds=seconds,
            images_per_second=n / seconds,
        )

    def launch(self, number: int) -> tuple[Tensor, float]:
        """All work of an epoch, without waiting for the device: what came of it, and the last step's lr.

        float64 (3 + K * K,): sums of cross-entropy and of right predictions, and the fields of an Evaluation.
        """
        self.step.model.train()
        device = self.train.labels.device
        loss, right = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
        lr = 0.0
        for images, labels in self.progress(self.train.epoch(number)):
            cross_entropy, correct = self.step(images, labels)
            self.optimizer.step()
            loss.add_(cross_entropy, alpha=len(labels))  # at once: the next step may write over what this one returned
            right.add_(correct)
            lr = float(self.optimizer.param_groups[0]["lr"])
            self.schedule.step()
            self.after_step()
        totals = torch.stack([loss.double(), right.double()])
        return torch.cat([totals, evaluate(self.score, self.val)]), lr

    def state_dict(self) -> dict[str, Any]:
        """All that the epochs to come depend on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": checkpoint.random_state(),
            "epoch": self.done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from state_dict()'s state; the model's weights must fit."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        checkpoint.set_random_state(state["random"])
        self.done = state["epoch"]

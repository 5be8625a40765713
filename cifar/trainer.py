"""The epoch loop: a generator of EpochMetrics. Whoever iterates records, reports, prunes and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from cifar import checkpoint
from cifar.loader import Epochs
from cifar.optim import Schedule
from cifar.results import Diverged, EpochMetrics
from cifar.step import Autocast, EagerStep


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
def evaluate(model: nn.Module, batches: Epochs, autocast: Autocast) -> Tensor:
    """The fields of an Evaluation of `model` in eval mode, in a row, float64 (1 + K * K,), on the device."""
    model.eval()
    loss, confusion = torch.zeros((), device=batches.labels.device), torch.zeros(0)
    for images, labels in batches.epoch(1):
        with autocast():
            logits = model(images).float()
        loss += F.cross_entropy(logits, labels, reduction="sum")
        if not len(confusion):
            confusion = torch.zeros(logits.shape[1] ** 2, dtype=torch.int64, device=loss.device)
        confusion.index_add_(0, labels * logits.shape[1] + logits.argmax(1), torch.ones_like(labels))
    return torch.cat([(loss / batches.total).double()[None], confusion.double()])


@dataclass
class Trainer:
    """Trains `model` for `total` epochs in all; `done` of them are behind it.

    `after_step` is called after every step and may raise to stop there; `progress` wraps an epoch's batches (a bar).
    """

    model: nn.Module
    train: Epochs
    val: Epochs
    optimizer: Optimizer
    schedule: Schedule
    step: EagerStep
    autocast: Autocast
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
        totals, lr = self._train(number)
        found = torch.cat([totals.double(), evaluate(self.step.model, self.val, self.autocast)]).cpu()  # waits, once
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

    def _train(self, number: int) -> tuple[Tensor, float]:
        """One pass: sums of cross-entropy and of right predictions (2,) on the device, and the last step's lr."""
        self.step.model.train()
        totals = torch.zeros(2, device=self.train.labels.device)
        lr = 0.0
        for images, labels in self.progress(self.train.epoch(number)):
            cross_entropy, right = self.step(images, labels)
            self.optimizer.step()
            totals[0] += cross_entropy * len(labels)
            totals[1] += right
            lr = float(self.optimizer.param_groups[0]["lr"])
            self.schedule.step()
            self.after_step()
        return totals, lr

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

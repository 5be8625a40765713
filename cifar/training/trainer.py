"""The epoch loop: a generator of EpochMetrics. The caller records, reports, prunes and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cifar.data.loader import EpochLoader
from cifar.objective import ACCURACY, ClassScore, Objective, balanced_accuracy, class_scores, macro_f1
from cifar.reporting import Diverged, EpochMetrics
from cifar.training import checkpoint
from cifar.training.average import NoAverage
from cifar.training.device import Clock, Stopwatch
from cifar.training.optim import BeforeUpdate, hyperparameters, no_clipping, set_hyperparameters
from cifar.training.schedulers import Schedule, Stretch, changed_schedule
from cifar.training.step import EagerScore, EagerStep, Static

AfterStep = Callable[[], None]
"""Called after every training step; it may raise to end the run there."""
Progress = Callable[[Iterable[tuple[Tensor, Tensor]]], Iterable[tuple[Tensor, Tensor]]]
"""Wraps the training batches of an epoch and passes them through, to show how many are done."""


def no_callback() -> None:
    pass


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy, nats · confusion int64 (K, K): images by true class (rows) and predicted class."""

    loss: float
    confusion: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Evaluation:
        """From the first tensor that evaluate() returned; waits for the device."""
        loss, *counts = values.tolist()
        classes = math.isqrt(len(counts))
        return cls(loss, torch.tensor(counts, dtype=torch.int64).reshape(classes, classes))

    @property
    def accuracy(self) -> float:
        """A fraction of 1."""
        return int(self.confusion.trace()) / int(self.confusion.sum())

    @property
    def class_scores(self) -> list[ClassScore]:
        return class_scores(self.confusion.numpy())


@torch.inference_mode()
def evaluate(score: EagerScore | Static, batches: EpochLoader) -> tuple[Tensor, list[Tensor]]:
    """Evaluate score.model in eval mode, without waiting for the device.

    Returns the fields of an Evaluation, flattened, float64 (1 + K * K,), and the logits of each batch, float32 (B, K);
    all on the device.
    """
    score.model.eval()
    device = batches.labels.device
    loss = torch.zeros((), device=device)
    confusion = torch.zeros((), dtype=torch.int64, device=device)
    logits: list[Tensor] = []
    for images, labels in batches.epoch(1):
        cross_entropy, counts, of_batch = score(images, labels)
        loss = loss + cross_entropy
        confusion = confusion + counts
        logits.append(of_batch.clone())  # the next call may overwrite what this one returned
    return torch.cat([(loss / batches.total).double()[None], confusion.double()]), logits


@dataclass
class Trainer:
    """Trains `model` until `total` epochs are done. `done` counts the epochs that are; `validated` is of the last one.

    `val_logits` are those of its validation images, in their order: float32 (N, K) in batches, on the device.

    `step.model` may be a compiled version of `model`, with the same weights, and `score.model` one of `measured`.
    """

    model: nn.Module
    train: EpochLoader
    val: EpochLoader
    optimizer: Optimizer
    schedule: Schedule
    step: EagerStep | Static
    score: EagerScore | Static
    total: int
    progress: Progress = iter
    done: int = 0
    validated: Evaluation | None = None
    val_logits: list[Tensor] = field(default_factory=list)
    clip: BeforeUpdate = no_clipping
    average: NoAverage = field(default_factory=NoAverage)
    objective: Objective = ACCURACY
    clock: Clock = time.perf_counter
    schedule_of: Callable[[int], Schedule] | None = None
    """Of a run whose number of steps is planned: builds its schedule."""
    stretch: Stretch | None = None
    last_steps: int | None = None
    """Steps of the last epoch; None: all of its batches."""
    step_of_epoch: int = 0
    """Steps that are done of the epoch that is being trained."""
    images_trained: int = 0
    """Images that were trained on in the latest epoch."""
    validation_seconds: float = 0.0
    """Of the latest epoch."""

    @property
    def steps_done(self) -> int:
        return self.done * len(self.train) + self.step_of_epoch

    @property
    def steps(self) -> int:
        """Training steps of the whole run."""
        batches = len(self.train)
        return (self.total - 1) * batches + (self.last_steps or batches)

    def plan(self, steps: int) -> None:
        """Before the first step: train for so many steps, the last epoch in part where they are no whole epochs."""
        assert self.schedule_of is not None
        self.schedule, self.stretch = self.schedule_of(steps), Stretch(steps)
        self._set_steps(steps)

    def correct(self, left: int) -> None:
        """Train for `left` more steps, 1 or more, over which the rest of the schedule is spread."""
        assert self.stretch is not None
        self._set_steps(self.steps_done + left)
        self._advance(self.stretch.correct(left))

    def _set_steps(self, steps: int) -> None:
        self.total = -(-steps // len(self.train))
        self.last_steps = steps - (self.total - 1) * len(self.train)

    def _advance(self, steps: int) -> None:
        for _ in range(steps):
            self.schedule.step()

    @property
    def measured(self) -> nn.Module:
        """The network that is validated: `model`, or the average of its weights."""
        return self.average.measured(self.model)

    @property
    def is_replayed(self) -> bool:
        """Whether steps are those of a CUDA graph; known once there was a step."""
        return isinstance(self.step, Static) and self.step.is_replayed

    def epochs(self, after_step: AfterStep = no_callback) -> Iterator[EpochMetrics]:
        """Train epoch by epoch and yield the metrics of each. Raises Diverged where a loss is not finite."""
        while self.done < self.total:
            metrics = self._epoch(self.done + 1, after_step)
            self.schedule.epoch(self.objective.value(metrics))
            self.done, self.step_of_epoch = metrics.epoch, 0
            yield metrics

    def _epoch(self, number: int, after_step: AfterStep) -> EpochMetrics:
        start = self.clock()
        values, lr = self.launch(number, after_step)
        values = values.cpu()  # waits for the device, once an epoch
        self.validation_seconds = self.validation.seconds
        train_loss, correct = values[:2].tolist()
        validated = Evaluation.of(values[2:])
        if not (math.isfinite(train_loss) and math.isfinite(validated.loss)):
            raise Diverged(
                f"the loss is not finite in epoch {number} (training {train_loss}, validation {validated.loss}) at lr"
                f" {lr:g}: most likely the learning rate is too high; try a third of it, or precision=fp32"
            )
        self.validated = validated
        images = self.images_trained
        scores = validated.class_scores
        seconds = self.clock() - start
        return EpochMetrics(
            epoch=number,
            train_loss=train_loss / images,
            train_accuracy=correct / images,
            val_loss=validated.loss,
            val_accuracy=validated.accuracy,
            lr=lr,
            seconds=seconds,
            images_per_second=images / seconds,
            val_balanced_accuracy=balanced_accuracy(scores),
            val_macro_f1=macro_f1(scores),
        )

    def launch(self, number: int, after_step: AfterStep = no_callback) -> tuple[Tensor, float]:
        """Launch all work of an epoch, without waiting for the device; returns its results and the last step's lr.

        The results are float64 (3 + K * K,) on the device: the sums of cross-entropy and of correct predictions in
        training, and the fields of the Evaluation of `val`.
        """
        self.step.model.train()
        device = self.train.labels.device
        loss = torch.zeros((), device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        lr = 0.0
        self.images_trained = 0
        for index, (images, labels) in enumerate(self.progress(self.train.epoch(number)), 1):
            batch_loss, batch_correct = self.train_on(images, labels)
            loss.add_(batch_loss, alpha=len(labels))  # at once: the next step may overwrite what this one returned
            correct.add_(batch_correct)
            lr = float(self.optimizer.param_groups[0]["lr"])
            self.images_trained += len(labels)
            self.step_of_epoch = index
            self._advance(1 if self.stretch is None else self.stretch.step())
            after_step()
            if number >= self.total and index == self.last_steps:
                break
        totals = torch.stack([loss.double(), correct.double()])
        self.validation = Stopwatch(device, self.clock)
        values, self.val_logits = evaluate(self.score, self.val)
        self.validation.stop()
        return torch.cat([totals, values]), lr

    def train_on(self, images: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """Take a step on a batch, and return what `step` returns."""
        outputs = self.step(images, labels)
        self.clip()
        self.optimizer.step()
        self.average.update()
        return outputs

    def state_dict(self) -> dict[str, Any]:
        """Everything that the remaining epochs depend on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": checkpoint.random_state(),
            "epoch": self.done,
            **({} if self.stretch is None else {"plan": {"steps": self.steps, "stretch": self.stretch.state_dict()}}),
        }

    def load_state_dict(self, state: dict[str, Any], changed: Collection[str] = ()) -> None:
        """Continue from a state of state_dict(), whose weights must fit the model.

        `changed` are the settings that differ from those of the state, by full key, as "optimizer.lr": they take effect
        from the next step.
        """
        if self.schedule_of is not None and "plan" in state:
            self._load_plan(state["plan"])
        configured = hyperparameters(self.optimizer)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state.get("average", {}))
        self.optimizer.load_state_dict(state["optimizer"])
        if changed_schedule(changed):
            steps = state["epoch"] * len(self.train) if self.stretch is None else self.stretch.position
            self.schedule.follow(state["schedule"], configured, changed, steps)
        else:
            self.schedule.load_state_dict(state["schedule"])
        set_hyperparameters(self.optimizer, configured, changed)
        checkpoint.set_random_state(state["random"])
        self.done = state["epoch"]

    def _load_plan(self, plan: dict[str, Any]) -> None:
        self.plan(plan["stretch"]["total"])
        assert self.stretch is not None
        self.stretch.load_state_dict(plan["stretch"])
        self._set_steps(plan["steps"])

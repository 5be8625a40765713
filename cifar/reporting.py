"""What a run reports to whoever started it, and how it can be ended from there. Imports no torch.

A run that was started by hand has a `Reporter` that ignores what it receives. A trial of a search has one that passes
the metrics on to the study and prunes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cifar.errors import UserError


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch. Losses are mean cross-entropies (nats), without the L2 term, label smoothing and class weights;
    accuracies are fractions of 1. What `val_` says is of the averaged weights where ema.decay is on.

    `lr` is the learning rate of the first parameter group in the epoch's last step. `seconds` covers training and
    validation, and the steps that other runs of the process take meanwhile. `images_per_second` counts training images
    only. The last two figures are defined in cifar/objective.py; None for an epoch of an earlier version.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    images_per_second: float
    val_balanced_accuracy: float | None = None
    val_macro_f1: float | None = None


class Pruned(Exception):
    """Raised by a Reporter: the run is not worth more epochs."""


class Diverged(UserError):
    """The loss is no longer finite."""


class Interrupted(KeyboardInterrupt):
    """The run received the signal `signum` and stopped after its current step.

    Like Ctrl-C it is a KeyboardInterrupt, so that launchers do not start the remaining jobs of a grid.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message, signum)
        self.signum = signum

    def __str__(self) -> str:
        return str(self.args[0])


class Coordinator:
    """How a run shares its process with other runs. This one is for a run that has the process to itself: a no-op.

    `exclusive`: the run has the terminal and the signal handlers to itself, so it shows progress and handles Ctrl-C.
    """

    exclusive = True

    def yield_control(self) -> None:
        """Called after every training step: other runs may train now. Raises Interrupted to end the run."""

    def run_in_background(self, work: Callable[[], object]) -> None:
        """Call `work`, which computes nothing on the device (it writes files); other runs may train meanwhile."""
        work()

    def set_capacity(self, runs: float) -> None:
        """Called after an epoch: the device has memory for so many runs like this one, itself included."""


class Reporter:
    """Receives the metrics of every epoch. This one ignores them.

    `coordinator` says how the run shares its process.
    """

    coordinator = Coordinator()

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        """Receive the metrics after `step` (an epoch, from 1): one number, or numbers by name.

        Raises Pruned or Interrupted to end the run.
        """

    def identify(self, content: Mapping[str, Mapping[str, Any]]) -> None:
        """Receive what the run is trained on, by part, such as its images and its weights; called before it trains.

        Raises UserError to end a run that is not trained on what the study is about.
        """


NO_REPORTER = Reporter()

"""All settings of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from cifar.objective import OBJECTIVES
from cifar.options.augment import Augment
from cifar.options.data import Data
from cifar.options.fields import matching, one_of, restricted, within
from cifar.options.model import Model
from cifar.options.optimizer import Optimizer
from cifar.options.scheduler import Scheduler
from cifar.options.times import ALLOWED, is_time
from cifar.options.tracker import Tracker
from cifar.options.transfer import Transfer


def _weights(value: Any) -> bool:
    """Whether loss.class_weights may have this value."""
    if not isinstance(value, list):
        return bool(value == "balanced")
    numbers = [item for item in value if isinstance(item, (int, float)) and not isinstance(item, bool)]
    return bool(value) and len(numbers) == len(value) and all(0 < number < math.inf for number in numbers)


@dataclass
class Loss:
    """`l2`: lambda of the term lambda/2 * ||w||^2 added to the cross-entropy.

    `label_smoothing`: the share of each label that is spread over all classes. `class_weights`: how much an image of
    each class counts, in the order of the classes; balanced: classes of few images as much as the others.
    """

    l2: float = within("[0, inf)")
    label_smoothing: float = within("[0, 1)")
    class_weights: Any = restricted(
        "balanced, null, or a list of numbers above 0, one for each class", _weights, whole=True
    )


@dataclass
class Average:
    """`decay` of the exponential moving average of the weights that is validated and saved; null: none."""

    decay: float | None = within("(0, 1)")


@dataclass
class EarlyStopping:
    """`patience`: a run ends after so many epochs in a row without a new best; null: it does not."""

    patience: int | None = within("[1, inf)")


@dataclass
class Cache:
    """`memory_share`: of the memory of the machine, or of the job; images that take more stay in `dir`."""

    dir: str = matching(".+", "a folder")
    memory_share: float = within("[0, 1]")


@dataclass
class Config:
    """All settings of a run, checked. Each config group is an option of its group."""

    data: Data = MISSING
    augment: Augment = MISSING
    model: Model = MISSING
    optimizer: Optimizer = MISSING
    scheduler: Scheduler = MISSING
    transfer: Transfer = MISSING
    tracker: Tracker = MISSING
    loss: Loss = field(default_factory=Loss)
    ema: Average = field(default_factory=Average)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    objective: str = one_of(*OBJECTIVES)
    cache: Cache = field(default_factory=Cache)
    epochs: int = within("[1, inf)")
    time: str | None = restricted(ALLOWED, is_time)
    batch_size: int = within("[1, inf)")
    seed: int = within("[0, 4294967295]")
    device: str = matching(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda, cuda:N")
    precision: str = one_of("auto", "fp32", "bf16")
    channels_last: bool = MISSING
    compile: bool = MISSING
    cuda_graph: Any = restricted("auto, true, false", ("auto", True, False).__contains__)
    deterministic: bool = MISSING
    threads: int | None = within("[1, 1024]")
    test: bool = MISSING
    resume: str | None = MISSING
    from_study: str | None = MISSING
    from_run: str | None = MISSING

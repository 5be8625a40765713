"""The trainer of a run, built from its config and its task."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cifar.data.split import Splits
from cifar.objective import OBJECTIVES
from cifar.options.config import Config
from cifar.resources import SHARED, Resources
from cifar.tasks import Task, build_task
from cifar.training.average import build_average
from cifar.training.cuda_graph import cuda_graph, cuda_graph_or_eager
from cifar.training.device import Clock, set_up_device, uses_cuda_graph
from cifar.training.loss import build_loss, class_weights
from cifar.training.optim import (
    ParameterGroup,
    build_optimizer,
    clipping,
    decayed_parameters,
    hyperparameters,
    reset_hyperparameters,
)
from cifar.training.progress import progress_bar, progress_lines
from cifar.training.schedulers import Schedule, build_schedule, constant
from cifar.training.step import EagerScore, EagerStep, Static, StaticStep, autocast
from cifar.training.trainer import Trainer


def set_up(config: Config) -> torch.device:
    """Apply the process-wide settings of a run, and return its device."""
    return set_up_device(config.device, config.threads, config.deterministic)


def build_trainer(
    config: Config, splits: Splits, device: torch.device, bar: bool = False, resources: Resources = SHARED
) -> Trainer:
    """A trainer before its first epoch, with weights drawn from config.seed; `bar` shows its epochs on a terminal."""
    return trainer_of(config, build_task(config, splits, device, resources), splits, bar)


def trainer_of(
    config: Config, task: Task, splits: Splits, bar: bool, clock: Clock = time.perf_counter, timed: bool = False
) -> Trainer:
    """The trainer of a task; `timed`: its number of steps, and with it its schedule, is still to be planned."""
    model, train = task.model, task.train
    device = train.labels.device
    optimizer = build_optimizer(config.optimizer.arguments(), task.groups)
    planned = partial(planned_schedule, config, optimizer, hyperparameters(optimizer), len(train))
    schedule = constant(optimizer, 1) if timed else planned(config.epochs * len(train))
    average = build_average(model, config.ema.decay)
    compile: Any = torch.compile if config.compile else no_compiler
    cast = autocast(device, task.dtype)
    weights = class_weights(config.loss.class_weights, train.labels, splits.train.classes)
    loss = build_loss(config.loss.label_smoothing, weights)
    decayed = decayed_parameters(model, config.optimizer.decay_norms_and_biases)
    trained = compile(model)
    measured = average.measured(model)
    step = EagerStep(trained, decayed, config.loss.l2, cast, loss)
    score = EagerScore(trained if measured is model else compile(measured), cast)
    graph = uses_cuda_graph(config.cuda_graph, device)
    capture = cuda_graph if config.cuda_graph is True else cuda_graph_or_eager
    return Trainer(
        model,
        train,
        task.evaluation(splits.val),
        optimizer,
        schedule,
        StaticStep(step, capture) if graph else step,
        Static(score, capture) if graph else score,
        total=config.epochs,
        progress=partial(progress_bar if bar else progress_lines, total=len(train)),
        clip=clipping(optimizer, config.optimizer.clip_norm),
        average=average,
        objective=OBJECTIVES[config.objective],
        clock=clock,
        schedule_of=planned if timed else None,
    )


def planned_schedule(
    config: Config, optimizer: Optimizer, configured: list[ParameterGroup], batches: int, steps: int
) -> Schedule:
    """The schedule of a run of so many steps, in epochs of `batches`.

    `configured` are the hyperparameters of the optimizer, which an earlier schedule may have changed.
    """
    reset_hyperparameters(optimizer, configured)
    scheduler = config.scheduler
    arguments = scheduler.arguments(dataclasses.replace(config, epochs=-(-steps // batches)))
    return build_schedule(arguments, optimizer, steps, round(scheduler.linear_warmup * batches))


def no_compiler(model: nn.Module) -> nn.Module:
    return model

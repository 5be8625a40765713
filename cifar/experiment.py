"""One run: build, train, record.

This module, cifar.inputs, cifar.tasks and cifar.metadata read a Config; every room above them receives plain values.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from cifar import metadata, saving
from cifar.best_weights import Best
from cifar.commands import command, override
from cifar.content import Content, check_resumed, content_of
from cifar.data import known
from cifar.data.split import Splits
from cifar.inputs import configured_backbone, input_format, log_input
from cifar.objective import OBJECTIVES, values
from cifar.options.config import Config
from cifar.options.option import whitelist
from cifar.options.own import code_digests
from cifar.options.resume import recorded_settings, settings_of
from cifar.options.splits import CALIBRATION, TRAIN, TRAINING_PART, VAL
from cifar.options.transfer import Pretrained
from cifar.recording import recording, result_of
from cifar.reporting import EpochMetrics, Interrupted, Reporter
from cifar.resources import SHARED, Resources
from cifar.results import RunDirectory, best_of, same_directory, stopped_early
from cifar.run_data import RunData, load_images, load_splits, with_recorded_fixes
from cifar.saving import RunSaver
from cifar.signals import StopFlag
from cifar.tasks import Classifier, Task, build_task
from cifar.trackers.base import FailSafeTracker, TrackedRun, Tracker
from cifar.trained import load_classifier
from cifar.training.average import build_average
from cifar.training.cuda_graph import cuda_graph, cuda_graph_or_eager
from cifar.training.device import max_concurrent_runs, set_up_device, uses_cuda_graph
from cifar.training.isolation import Isolation
from cifar.training.loss import build_loss, class_weights
from cifar.training.optim import build_optimizer, clipping, decayed_parameters
from cifar.training.progress import progress_bar, progress_lines
from cifar.training.schedulers import build_schedule
from cifar.training.step import EagerScore, EagerStep, Static, StaticStep, autocast
from cifar.training.threads import pinned
from cifar.training.trainer import Trainer
from cifar.unreadable import naming_unreadable

__all__ = ["Classifier", "build_trainer", "load_classifier", "load_splits", "run", "set_up"]
log = logging.getLogger(__name__)


def run(
    config: Config,
    output_dir: str,
    reporter: Reporter,
    study: str | None = None,
    resources: Resources = SHARED,
    settings: Mapping[str, str] | None = None,
) -> float:
    """Train as `config` says, write the results to `output_dir`, and return the objective of the best epoch.

    `study` is the folder of the sweep that the run belongs to; `settings` are the files of .hydra/, written at the
    start. Raises Pruned, Interrupted or Diverged after result.json says so; any other error leaves the status "failed".
    """
    config = with_recorded_fixes(config)
    with Isolation(set_up(config)) as isolation:
        with naming_unreadable(config, Path(output_dir), resources):
            experiment = Experiment(config, RunDirectory(output_dir), reporter, isolation, resources)
        return experiment.run(study, settings or {})


def set_up(config: Config) -> torch.device:
    """Apply the process-wide settings of a run, and return its device."""
    return set_up_device(config.device, config.threads, config.deterministic)


def build_trainer(
    config: Config, splits: Splits, device: torch.device, bar: bool = False, resources: Resources = SHARED
) -> Trainer:
    """A trainer before its first epoch, with weights drawn from config.seed; `bar` shows its epochs on a terminal."""
    return trainer_of(config, build_task(config, splits, device, resources), splits, bar)


def trainer_of(config: Config, task: Task, splits: Splits, bar: bool) -> Trainer:
    """The trainer of a task."""
    model, train = task.model, task.train
    device = train.labels.device
    optimizer = build_optimizer(config.optimizer.arguments(), task.groups)
    steps = config.epochs * len(train)
    scheduler = config.scheduler
    warmup = round(scheduler.linear_warmup * len(train))
    schedule = build_schedule(scheduler.arguments(config), optimizer, steps, warmup)
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
    )


def no_compiler(model: nn.Module) -> nn.Module:
    return model


class Experiment:
    """A run from its first line to its last. Isolated: `isolation` has been entered."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        reporter: Reporter,
        isolation: Isolation,
        resources: Resources,
    ) -> None:
        self.start_time = time.perf_counter()
        self.config = config
        self.directory = directory
        self.coordinator = reporter.coordinator
        self.reporter = reporter
        self.isolation = isolation
        self.resources = resources
        log_input(config, resources)
        self.data = RunData(config, resources)
        self.splits = self.data.splits
        self._check_content()
        self.test = self.data.load_test() if config.test else None
        self.task = build_task(config, self.splits, isolation.device, resources)
        self.task.check(len(self.splits.train.classes))
        bar = self.coordinator.exclusive and sys.stderr.isatty()
        self.trainer = trainer_of(config, self.task, self.splits, bar)
        self.saver = RunSaver(directory, self.trainer, self.splits.val, self._description(), settings_of(config))
        self.history: list[EpochMetrics] = []
        self.stop = StopFlag()

    def _check_content(self) -> None:
        """Have the study, and the run that is resumed, compare the images and the weights with theirs.

        Before anything is computed or written. Raises ContentError, or what the reporter raises.
        """
        config = self.config
        facts = {"data": self.data.facts, "code": code_digests(config)} | self.data.initial_facts
        content: Content = content_of(facts)
        if isinstance(config.transfer, Pretrained):
            backbone = configured_backbone(config, self.resources)
            content |= content_of({"transfer": backbone.reference()})
        if config.resume is not None:
            check_resumed(Path(config.resume), content, partial(self._image_changes, Path(config.resume)))
        self.reporter.identify(content)

    def _image_changes(self, run: Path) -> str:
        """How the images differ from those of the run that is resumed, in words."""
        images, limit = load_images(self.config, self.resources), self.config.data.limit
        parts = {TRAIN, CALIBRATION} | ({VAL} if self.splits.val_from == TRAINING_PART else set())
        return known.changes(run, images, parts, limit is not None and limit < len(images))

    def run(self, study: str | None, settings: Mapping[str, str]) -> float:
        """Train, record, and return the objective of the best epoch."""
        objective = self.trainer.objective
        signals = self.stop.handling_signals() if self.coordinator.exclusive else nullcontext()
        with signals:  # before result.json says that the run has begun
            facts = self._begin(settings)
            tracker = FailSafeTracker(instantiate(self.config.tracker, _execution_whitelist_=whitelist()))
            facts["start_seconds"] = time.perf_counter() - self.start_time
            with recording(self.directory, facts, self.history, tracker, objective):
                tracker.start(self._tracked_run(study))
                unless_compiling = nullcontext() if self.config.compile else pinned()
                with unless_compiling:  # processes that compile would inherit the core
                    self._train(tracker, facts)
                facts |= self._assess()
        best = best_of(self.history, objective)
        assert best is not None
        value = objective.value(best)
        log.info("best %s %.4f in epoch %d · %s", objective.label, value, best.epoch, self.directory.path)
        return value

    def _begin(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """Resume where that is asked for, and write the first files of the run directory. Returns the run's facts."""
        config, directory = self.config, self.directory
        source = Path(config.resume) if config.resume is not None else None
        if source is not None:
            self.history += saving.resume(
                self.trainer, source, settings_of(config), recorded_settings(config, str(source))
            )
        facts = metadata.run_facts(config, self.data.facts, self.trainer) | self.task.facts
        facts |= metadata.loss_facts(config, self.trainer.train.labels, self.splits.train.classes)
        facts |= self.data.initial_facts
        first_result = result_of("running", None, self.history, facts, self.trainer.objective)
        directory.start(self.history, source is not None and same_directory(source, directory.path), first_result)
        if settings:
            directory.write_settings(settings)
        self.data.record(directory.path, self.test)
        if source is not None:
            saving.copy_best_files(source, directory.path)
            self.saver.resume()
            facts |= self.saver.facts
        metadata.log_start(config, facts, directory.path)
        return facts

    def _train(self, tracker: Tracker, facts: dict[str, Any]) -> None:
        """Train and save epoch by epoch; `facts` are updated with those of the best one."""
        objective = self.trainer.objective
        for metrics in self._epochs():
            self.history.append(metrics)
            facts["device"]["cuda_graph"] = self.trainer.is_replayed
            state = self.trainer.state_dict()  # before the pause: it holds this run's random generators
            with self.isolation.paused():
                self.coordinator.run_in_background(partial(self.saver.save, state, self.history))
                facts |= self.saver.facts
                self.coordinator.run_in_background(partial(tracker.epoch, metrics))
            best = best_of(self.history, objective) is metrics
            log.info(metadata.epoch_line(metrics, self.config.epochs, best, objective))
            self.coordinator.set_capacity(max_concurrent_runs(self.isolation.device))
            self.reporter.report(metrics.epoch, dataclasses.asdict(metrics) | values(metrics))

    def _in_background(self, write: Callable[[], None]) -> None:
        with self.isolation.paused():
            self.coordinator.run_in_background(write)

    def _epochs(self) -> Iterator[EpochMetrics]:
        """The epochs to train: to the last, or until early_stopping.patience ends the run."""
        objective, patience = self.trainer.objective, self.config.early_stopping.patience
        epochs = self.trainer.epochs(self._after_step)
        while not stopped_early(self.history, objective, patience):
            metrics = next(epochs, None)
            if metrics is None:
                return
            yield metrics
        done, total = self.trainer.done, self.trainer.total
        log.info("stopped after epoch %d of %d: %d epochs without a better %s", done, total, patience, objective.label)

    def _after_step(self) -> None:
        """Let the other runs of the process train, and end this one where a signal has asked for it."""
        with self.isolation.paused():
            self.coordinator.yield_control()
        if self.stop.signum is not None:
            raise Interrupted(
                f"interrupted after epoch {self.trainer.done} of {self.trainer.total}; to resume:"
                f" {command(override('resume', self.directory.path))}",
                self.stop.signum,
            )

    def _description(self) -> dict[str, Any]:
        """What best.pt holds besides the weights."""
        return {
            "settings": dataclasses.asdict(self.config.model.at(self.data.facts["image_size"])),
            "transfer": dataclasses.asdict(self.config.transfer) | self.task.facts.get("transfer", {}),
            "input": dataclasses.asdict(input_format(self.config, self.resources)),
            "classes": list(self.splits.train.classes),
            "mean": self.splits.mean,
            "std": self.splits.std,
        }

    def _assess(self) -> dict[str, Any]:
        """What is measured of the best weights, once all epochs are done."""
        path, write = self.directory.path, self._in_background
        best = Best(path, self.task, self.trainer, self.saver, self.data, self.resources, write)
        facts = best.reliability() | best.save_examples() | best.test(self.test)
        return facts | best.without_leaks(self.test) | best.compare(self.test)

    def _tracked_run(self, study: str | None) -> TrackedRun:
        folder = Path(study).resolve() if study else None
        resumed = Path(self.config.resume).resolve() if self.config.resume else None
        settings = metadata.tracked_settings(self.config)
        return TrackedRun(self.directory.path.resolve(), folder, resumed, settings, list(self.history))

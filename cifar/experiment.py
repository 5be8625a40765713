"""One run: build, train, record.

This module, cifar.building, cifar.inputs, cifar.tasks, cifar.timed and cifar.metadata read a Config; every room above
them receives plain values.
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

from hydra.utils import instantiate

from cifar import auto, conclusion, metadata, saving
from cifar.best_weights import Best
from cifar.building import build_trainer, set_up, trainer_of
from cifar.commands import command, override
from cifar.content import Content, check_resumed, content_of
from cifar.data import known
from cifar.durations import Durations
from cifar.inputs import configured_backbone, input_format, log_input
from cifar.objective import values
from cifar.options.config import Config
from cifar.options.option import whitelist
from cifar.options.own import code_digests
from cifar.options.resume import recorded_settings, settings_of
from cifar.options.splits import CALIBRATION, TRAIN, TRAINING_PART, VAL
from cifar.options.transfer import Frozen, Pretrained
from cifar.recording import recording, result_of
from cifar.reporting import EpochMetrics, Interrupted, Reporter
from cifar.resources import SHARED, Resources
from cifar.results import RunDirectory, best_of, same_directory, stopped_early
from cifar.run_data import RunData, load_images, load_splits, with_recorded_fixes
from cifar.saving import RunSaver
from cifar.signals import StopFlag
from cifar.tasks import Classifier, build_task
from cifar.timed import plan_settings, timekeeper
from cifar.trackers.base import FailSafeTracker, TrackedRun, Tracker
from cifar.trained import load_classifier
from cifar.training.device import Clock, max_concurrent_runs
from cifar.training.isolation import Isolation
from cifar.training.threads import pinned
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
    clock: Clock = time.perf_counter,
) -> float:
    """Train as `config` says, write the results to `output_dir`, and return the objective of the best epoch.

    `study` is the folder of the sweep that the run belongs to; `settings` are the files of .hydra/, written at the
    start. `clock` measures the time (config.time).

    Raises Pruned, Interrupted or Diverged after result.json says so; any other error leaves the status "failed".
    """
    config = with_recorded_fixes(config)
    with Isolation(set_up(config)) as isolation:
        with naming_unreadable(config, Path(output_dir), resources):
            experiment = Experiment(config, RunDirectory(output_dir), reporter, isolation, resources, clock)
        return experiment.run(study, settings or {})


class Experiment:
    """A run from its first line to its last. Isolated: `isolation` has been entered."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        reporter: Reporter,
        isolation: Isolation,
        resources: Resources,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.start_time = time.perf_counter()
        self.durations = Durations(clock)
        self.config = config
        self.directory = directory
        self.coordinator = reporter.coordinator
        self.reporter = reporter
        self.isolation = isolation
        self.resources = resources
        with self.durations.measuring("reading"):
            log_input(config, resources)
            self.data = RunData(config, resources)
            self.splits = self.data.splits
            self._check_content()
            self.test = self.data.load_test() if config.test else None
        images = self.splits.train.images
        self.decided = auto.decided(config, len(images), images.shape[-1], isolation.device)
        self.config = config = auto.as_decided(config, self.decided)
        with self.durations.measuring("features" if isinstance(config.transfer, Frozen) else "building"):
            self.task = build_task(config, self.splits, isolation.device, resources)
            self.task.check(len(self.splits.train.classes))
        bar = self.coordinator.exclusive and sys.stderr.isatty()
        self.trainer = trainer_of(config, self.task, self.splits, bar, clock, timed=config.time is not None)
        self.timekeeper = timekeeper(config, self.trainer, self.durations)
        self.saver = RunSaver(directory, self.trainer, self.splits.val, self._description(), settings_of(config))
        self.history: list[EpochMetrics] = []
        self.resumed: dict[str, Any] = {}
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
        settings = auto.files_as_decided(settings, self.decided)
        signals = self.stop.handling_signals() if self.coordinator.exclusive else nullcontext()
        with signals:  # before result.json says that the run has begun
            facts = self._begin(settings)
            tracker = FailSafeTracker(instantiate(self.config.tracker, _execution_whitelist_=whitelist()))
            facts["start_seconds"] = time.perf_counter() - self.start_time
            with recording(self.directory, facts, self.history, tracker, objective):
                tracker.start(self._tracked_run(study))
                unless_compiling = nullcontext() if self.config.compile else pinned()
                with unless_compiling:  # processes that compile would inherit the core
                    self._plan(facts)
                    self._train(tracker, facts)
                with self.durations.measuring("assessing"):
                    facts |= self._assess()
                facts["seconds"] = dict(self.durations.seconds)
        best = best_of(self.history, objective)
        assert best is not None
        value = objective.value(best)
        log.info("best %s %.4f in epoch %d · %s", objective.label, value, best.epoch, self.directory.path)
        if self.coordinator.exclusive and study is None:
            log.info("%s", conclusion.accuracy(facts, best, len(self.splits.val)))
            log.info("%s", conclusion.time(facts))
            for line in conclusion.next_steps(self.config, self.directory.path, self.splits.val, settings):
                print(line)
        return value

    def _begin(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """Resume where that is asked for, and write the first files of the run directory. Returns the run's facts."""
        config, directory = self.config, self.directory
        source = Path(config.resume) if config.resume is not None else None
        if source is not None:
            history, self.resumed = saving.resume(
                self.trainer, source, settings_of(config), recorded_settings(config, str(source))
            )
            self.history += history
            self.durations.resume(self.resumed.get("seconds", {}))
        facts = metadata.run_facts(config, self.data.facts, self.trainer) | self.task.facts
        facts |= metadata.loss_facts(config, self.trainer.train.labels, self.splits.train.classes)
        facts |= self.data.initial_facts | ({"decided": self.decided} if self.decided else {})
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

    def _plan(self, facts: dict[str, Any]) -> None:
        """Plan how many epochs are trained, where the run has a time, and write that down."""
        settings = plan_settings(self.config, self.data.facts["image_size"])
        self.timekeeper.begin(self.resumed, settings, self._after_batch)
        if self.config.time is not None:
            facts |= self._times()
            self.directory.write_result(result_of("running", None, self.history, facts, self.trainer.objective))

    def _times(self) -> dict[str, Any]:
        """What result.json says of time."""
        return self.timekeeper.facts() | {"seconds": dict(self.durations.seconds)}

    def _train(self, tracker: Tracker, facts: dict[str, Any]) -> None:
        """Train and save epoch by epoch; `facts` are updated with those of the best one."""
        objective = self.trainer.objective
        for metrics in self._epochs():
            self.history.append(metrics)
            facts["device"]["cuda_graph"] = self.trainer.is_replayed
            self.durations.add("training", metrics.seconds - self.trainer.validation_seconds)
            self.durations.add("validation", self.trainer.validation_seconds)
            state = self._state()  # before the pause: it holds this run's random generators
            with self.durations.measuring("saving"), self.isolation.paused():
                self.coordinator.run_in_background(partial(self.saver.save, state, self.history))
                facts |= self.saver.facts
                self.coordinator.run_in_background(partial(tracker.epoch, metrics))
            facts |= self._times()
            best = best_of(self.history, objective) is metrics
            log.info(metadata.epoch_line(metrics, self.trainer.total, best, objective))
            self.coordinator.set_capacity(max_concurrent_runs(self.isolation.device))
            self.reporter.report(metrics.epoch, dataclasses.asdict(metrics) | values(metrics))

    def _state(self) -> dict[str, Any]:
        """What the checkpoint holds of the run as it is now."""
        timed = self.timekeeper.state_dict()
        times = {"seconds": dict(self.durations.seconds), **({"timed": timed} if timed else {})}
        return self.trainer.state_dict() | times

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
        self.timekeeper.after_step()
        self._after_batch()

    def _after_batch(self) -> None:
        """Let the other runs of the process train, and end this one where a signal has asked for it."""
        with self.isolation.paused():
            self.coordinator.yield_control()
        self._stop_where_asked()

    def _stop_where_asked(self) -> None:
        """Raises Interrupted where a signal has asked for it."""
        if self.stop.signum is not None:
            done, total = self.trainer.done, self.trainer.total
            reached = f"after epoch {done} of {total}" if done else "before the end of the first epoch"
            resume = command(override("resume", self.directory.path))
            raise Interrupted(f"interrupted {reached}; to resume: {resume}", self.stop.signum)

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
        measures: list[Callable[[], dict[str, Any]]] = [best.reliability, best.save_examples]
        measures += [partial(measure, self.test) for measure in (best.test, best.without_leaks, best.compare)]
        facts: dict[str, Any] = {}
        for measure in measures:
            self._stop_where_asked()
            facts |= measure()
        return facts

    def _tracked_run(self, study: str | None) -> TrackedRun:
        folder = Path(study).resolve() if study else None
        resumed = Path(self.config.resume).resolve() if self.config.resume else None
        settings = metadata.tracked_settings(self.config)
        return TrackedRun(self.directory.path.resolve(), folder, resumed, settings, list(self.history))

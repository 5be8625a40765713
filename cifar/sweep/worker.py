"""One worker: ask, run, tell, until the study has its total. Runs as a job of any Hydra launcher."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from cifar import trust
from cifar.errors import UserError
from cifar.overrides import canonical, is_within, keys_of, parse, parse_line, to_text
from cifar.reporting import Diverged, Interrupted, Pruned, Reporter
from cifar.signals import StopFlag
from cifar.sweep import space as spaces
from cifar.sweep.app import SearchedApp
from cifar.sweep.components import custom_space, make_pruner, make_sampler
from cifar.sweep.content import REFUSED, ContentCheck, Known, OtherContent
from cifar.sweep.heartbeat import Heartbeat
from cifar.sweep.lockstep import Lockstep
from cifar.sweep.logs import TrialLogs, of_trial, trial_logs
from cifar.sweep.optuna_private import job_result, suggest, trial_of_branch
from cifar.sweep.reporter import TakenOver, TrialReporter, TurnTaking
from cifar.sweep.space import Space
from cifar.sweep.study import SharedStudy
from cifar.sweep.trials import folder_of, lineage

log = logging.getLogger(__name__)
STORAGE_WAITS = (1, 2, 4, 8, 16, 32)
"""Seconds between attempts to write to a storage that has failed."""
IDLE_POLL_INTERVAL = 1.0
"""Seconds between two checks of whether there is a trial to run, where the last ones run elsewhere."""


@dataclass
class Worker:
    """The task function of a worker job; picklable.

    `folder` is the study's, absolute. `overrides` are those of every trial of every worker. `devices` is the number of
    CUDA devices to share out, 0 for none. `dependent`: the worker is a child of the process `parent` and has to end
    with it (joblib), rather than a job of a cluster. `launch` identifies the start of the search. `contents`: what the
    search was trained on that this study confirms. `metric`: the name of the one that is optimised. `trust` are the
    modules that the person who started it trusts, and their directory.
    """

    app: SearchedApp
    task_function: Callable[..., Any]
    hydra_context: HydraContext
    config: DictConfig
    space: Space
    url: str
    folder: Path
    overrides: list[str]
    devices: int
    parent: int
    dependent: bool
    launch: str
    contents: list[Known]
    metric: str | None
    trust: tuple[tuple[str, ...], str] = field(default_factory=trust.granted)

    def __call__(self, cfg: DictConfig) -> None:
        trust.grant(*self.trust)
        index = int(HydraConfig.get().job.num)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        orphaned = self.ignore_terminal()
        stop_file = self.stop_file
        try:
            study = self.open_study()
            heartbeat = Heartbeat(study, float(self.settings.heartbeat), lambda: stop_file.exists() or orphaned())
            with trial_logs() as logs, heartbeat.running():
                WorkerLoop(self, study, index, heartbeat, logs).run()
        finally:
            if orphaned():
                os._exit(1)  # a process of joblib would wait five more minutes for another job

    def ignore_terminal(self) -> Callable[[], bool]:
        """Have this process ignore the terminal's Ctrl-C, which the parent passes on.

        Returns whether the parent, with which this process has to end, is dead.
        """
        if self.parent == os.getpid():
            return lambda: False
        with suppress(OSError):  # a process that leads a session has no such terminal
            os.setpgid(0, 0)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # drops what the terminal sent while this process began
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)
        return lambda: self.dependent and os.getppid() != self.parent

    @property
    def stop_file(self) -> Path:
        return self.folder / stop_file_name(self.launch)

    @property
    def settings(self) -> DictConfig:
        settings: DictConfig = self.config.hydra.sweeper
        return settings

    def open_study(self) -> SharedStudy:
        settings = self.settings
        pruner = make_pruner(settings)
        return SharedStudy(self.url, settings.study_name, self.folder, settings.n_trials, pruner, settings.max_deaths)

    def make_sampler(self, number: int, stage: str, index: int) -> BaseSampler:
        return make_sampler(self.settings, self.space, number, stage, index)

    def share(self, index: int) -> list[str]:
        """The override that gives each worker one of several devices."""
        return [f"{self.app.device_key}=cuda:{index % self.devices}"] if self.devices > 1 else []

    def takes_reporter(self) -> bool:
        """Whether the task function has a parameter `reporter`, to be pruned and stopped by."""
        return "reporter" in inspect.signature(self.task_function).parameters


@dataclass
class WorkerLoop:
    """One worker in its process: runs one trial after the other, several in turns where it is configured so."""

    worker: Worker
    study: SharedStudy
    index: int
    heartbeat: Heartbeat
    logs: TrialLogs

    def __post_init__(self) -> None:
        self.lockstep = Lockstep(self.worker.settings.trials_per_worker, self.serve)
        self.check = ContentCheck(self.study, self.worker.app, self.worker.contents)

    def run(self) -> None:
        self.lockstep.run()

    @property
    def stop(self) -> StopFlag:
        return self.heartbeat.stop

    def serve(self) -> None:
        """Run one trial after the other, until the study has its total or the worker has to stop."""
        make_sampler = functools.partial(self.worker.make_sampler, stage="options", index=self.index)
        while not self.is_over():
            trial = self.study.ask(make_sampler, self.index)
            if trial is None:
                self.wait()
            else:
                with self.heartbeat.of(trial):
                    self.work(trial)

    def is_over(self) -> bool:
        max_failure_rate = self.worker.settings.max_failure_rate
        return self.stop.is_set() or self.study.finished() or self.study.failing(max_failure_rate)

    def wait(self) -> None:
        """The last trials run elsewhere: wait for one that has to be retried."""
        seconds = min(IDLE_POLL_INTERVAL, self.heartbeat.interval)
        self.lockstep.run_in_background(lambda: self.stop.wait(seconds))

    def work(self, trial: Trial) -> None:
        """Run one trial, and record in the study how it ended; where the storage fails for a while, it is run again."""
        try:
            self.record(trial)
        except StorageInternalError as error:
            log.warning("trial %d: the storage failed (%s)", trial.number, error)
            self.lose(trial, f"the storage failed: {error}")

    def lose(self, trial: Trial, reason: str) -> None:
        """End a trial as lost, once the storage can be written again; raises what it raises if that takes too long."""
        for seconds in STORAGE_WAITS:
            try:
                return self.study.lose(trial, reason)
            except StorageInternalError:
                time.sleep(seconds)
        self.study.lose(trial, reason)

    def record(self, trial: Trial) -> None:
        """Run one trial, and record in the study how it ended."""
        study = self.study
        try:
            drawn = self.draw(trial)
            turns = TurnTaking(self.stop, self.lockstep)
            reporter = TrialReporter(trial, self.stop, turns, self.worker.metric, self.check)
            resume = self.inherit(trial, reporter)
            drawn = self.executed_as_before(trial, drawn)
            overrides = [*self.worker.overrides, *drawn, *self.worker.share(self.index), *resume]
            value = float(self.run_trial(overrides, trial, reporter))
            self.record_execution(trial)
            study.complete(trial, value)
        except Pruned:
            study.prune(trial)
        except OtherContent:
            study.release(trial, REFUSED)
            self.worker.stop_file.touch()  # no worker of this start is to continue
            raise
        except TakenOver as error:
            log.warning("%s", error)
        except Interrupted as error:
            self.stop.set()
            study.release(trial, str(error))
        except KeyboardInterrupt:
            study.release(trial, "stopped at once")
            raise
        except Diverged as error:
            study.fail(trial, "diverged", str(error))
        except StorageInternalError:
            raise
        except Exception as error:
            if isinstance(error, UserError) and self.concerns_all(trial, error):
                study.fail(trial, "withdrawn", str(error))
                self.worker.stop_file.touch()
                raise
            study.fail(trial, "failed", f"{type(error).__name__}: {error}")

    def concerns_all(self, trial: Trial, error: UserError) -> bool:
        """Whether what is wrong was not drawn: the error names no key and no text that the trial has for itself.

        Errors of a trial that has begun (a damaged checkpoint, a full disk) are the trial's.
        """
        frozen = self.study.frozen(trial)
        has_begun = frozen.last_step is not None or "retry_of" in frozen.user_attrs
        text = str(error)
        key = text.partition("=")[0].partition(":")[0]
        drawn = [canonical(name) for name in frozen.params]
        names_key = is_within(key, drawn) or any(is_within(place, [key]) for place in drawn)
        names_value = any(isinstance(value, str) and is_named(value, text) for value in frozen.params.values())
        return not (error.of_one_run or has_begun or names_key or names_value)

    def executed_as_before(self, trial: Trial, drawn: list[str]) -> list[str]:
        """The overrides of a trial; one of a confirmation is executed as that of the search was.

        What is said now wins, but for a time: the trial is repeated by the steps that it had.
        """
        app, settings = self.worker.app, self.study.frozen(trial).user_attrs.get("execution", {})
        repeated = settings.keys() & {app.time_key, app.epochs_key}
        kept = [line for line in drawn if not keys_of(parse_line(line)) & repeated]
        decided = set().union(*map(keys_of, parse(kept)))
        return [f"{key}={to_text(value)}" for key, value in settings.items() if key not in decided] + kept

    def record_execution(self, trial: Trial) -> None:
        """Keep with the trial how its run was executed: its folder may be on this machine alone."""
        execution = self.worker.app.execution(self.worker.folder / folder_of(self.study.frozen(trial)))
        if execution:
            with suppress(UpdateFinishedTrialError):  # it was taken over
                before = self.study.frozen(trial).user_attrs.get("execution", {})
                trial.set_user_attr("execution", {**before, **execution})

    def draw(self, trial: Trial) -> list[str]:
        """Sample the trial's parameters; returns its overrides."""
        worker, study = self.worker, self.study.study
        active = spaces.active(worker.space, functools.partial(suggest, trial))
        options = {key: value for key, value in trial.params.items() if key not in active.distributions}
        sampling = trial
        if options:
            study.sampler = worker.make_sampler(trial.number, "values", self.index)
            sampling = trial_of_branch(study, options, trial)
        for key, distribution in active.distributions.items():
            suggest(sampling, key, distribution)
        extend = custom_space(worker.settings)
        if extend is not None:
            extend(worker.config, sampling)
        return spaces.drawn(active, sampling.params)

    def inherit(self, trial: Trial, reporter: TrialReporter) -> list[str]:
        """The overrides that resume what an earlier attempt, or another run, has done; its steps are reported first."""
        for folder in self.earlier_runs(trial):
            overrides = self.worker.app.resume(folder)
            if overrides:
                reporter.repeat(self.worker.app.history(folder))
                return overrides
        return []

    def earlier_runs(self, trial: Trial) -> list[Path]:
        """The folders of the trials that this one retries, latest first, and of the run that it is to resume."""
        frozen, folder = self.study.frozen(trial), self.worker.folder
        # by number, as a trial whose worker was killed before it signed the trial has no attributes
        folders = [folder / folder_of(t) for t in lineage(frozen, self.study.trials())]
        if frozen.user_attrs.get("resume"):
            folders.append((folder / frozen.user_attrs["resume"]).resolve())
        return folders

    def run_trial(self, overrides: list[str], trial: Trial, reporter: Reporter) -> Any:
        """Run the task function as a Hydra job in the trial's folder. Returns its value; raises what it raised."""
        worker, number = self.worker, trial.number
        config = worker.hydra_context.config_loader.load_sweep_config(worker.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        with of_trial(number):
            try:
                job = run_job(
                    hydra_context=worker.hydra_context,
                    task_function=lambda cfg: self.call(cfg, trial, reporter),
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                    configure_logging=False,  # it would take down the logs of the trials that take turns with this one
                )
            finally:
                self.logs.close_trial(number)
        result = job_result(job)
        if isinstance(result, Exception):
            raise result
        return result

    def call(self, cfg: DictConfig, trial: Trial, reporter: Reporter) -> Any:
        """Call the task function, and log how it ended. Returns its value, or the error that is its regular end."""
        folder = Path(HydraConfig.get().runtime.output_dir)
        self.study.set_folder(trial, folder)
        self.logs.open(trial.number, folder)
        try:
            if self.worker.takes_reporter():
                return self.worker.task_function(cfg, reporter=reporter)
            return self.worker.task_function(cfg)
        except (Pruned, Diverged, OtherContent) as ending:
            log.getChild("trial").info("%s", ending)
            return ending
        except Exception:
            log.getChild("trial").exception("the trial failed")
            raise


def is_named(value: str, text: str) -> bool:
    """Whether a text has this value as a word, not as a part of another word or of a path; of a path, as its begin."""
    after = r"(?![\w-])" if "/" in value else r"(?![\w/-])"
    return re.search(rf"(?<![\w./-]){re.escape(value)}{after}", text) is not None


def stop_file_name(launch: str) -> str:
    """The file in the study's folder that asks the workers of this start to stop after their step."""
    return f".stop-{launch}"

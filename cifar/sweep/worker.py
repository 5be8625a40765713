"""One worker: ask -> run -> tell, until the study has its total. Runs as a job of any Hydra launcher."""

from __future__ import annotations

import functools
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, GridSampler, QMCSampler
from optuna.trial import Trial

from cifar.reporting import Coordinator, Diverged, Interrupted, Pruned, Reporter
from cifar.results import read_metrics
from cifar.signals import StopFlag
from cifar.sweep import space as spaces
from cifar.sweep.lockstep import Lockstep
from cifar.sweep.space import Space
from cifar.sweep.study import Branch, SharedStudy, lineage

log = logging.getLogger(__name__)
STOP_CHECK, IDLE_CHECK = 0.5, 1.0
"""Seconds between two looks at whether to stop, and at whether there is something to run."""
ALONE = Lockstep(1, lambda: None)
LOGS: list[logging.Handler] = []
"""Where the trials that run in this process log to."""
RUNNING: ContextVar[int | None] = ContextVar("RUNNING", default=None)
"""The trial that runs, by number."""


class TakenOver(Interrupted):
    """This trial was held to be lost (the machine slept?), and others go on with it."""


class TurnTaking(Coordinator):
    """A run takes turns with the other trials of its worker, and ends when the worker is asked to stop."""

    exclusive = False

    def __init__(self, stop: StopFlag, lockstep: Lockstep = ALONE) -> None:
        self.stop, self.lockstep = stop, lockstep

    def yield_control(self) -> None:
        self.lockstep.yield_control()
        if self.stop.is_set():
            raise Interrupted("interrupted; the command of the search resumes it", signal.SIGTERM)

    def run_in_background(self, work: Callable[[], object]) -> None:
        self.lockstep.run_in_background(work)

    def set_capacity(self, runs: float) -> None:
        self.lockstep.set_capacity(runs)


class TrialReporter(Reporter):
    """Reports every epoch to the study, and ends the run where it is to be pruned or the worker to stop."""

    def __init__(self, trial: Trial, stop: StopFlag, lockstep: Lockstep = ALONE) -> None:
        self.trial, self.stop = trial, stop
        self.coordinator = TurnTaking(stop, lockstep)
        self.reported: set[int] = set()

    def repeat(self, metrics: Path) -> None:
        """Report the epochs that an earlier attempt has done."""
        for epoch in read_metrics(metrics) if metrics.exists() else []:
            self._report(epoch.epoch, epoch.val_accuracy)

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        self._report(step, metrics["val_accuracy"] if isinstance(metrics, Mapping) else metrics)
        if self.trial.should_prune():
            raise Pruned(f"pruned after epoch {step}")
        if self.stop.is_set():
            raise Interrupted(f"interrupted after epoch {step}", signal.SIGTERM)

    def _report(self, step: int, value: float) -> None:
        if step in self.reported:
            return
        self.reported.add(step)
        try:
            self.trial.report(value, step)
        except UpdateFinishedTrialError:
            raise TakenOver(f"trial {self.trial.number} was taken over by another worker", signal.SIGTERM) from None


class Pulse:
    """A thread that gives a worker's signs of life, looks at those of the others, and hears when to stop."""

    def __init__(self, study: SharedStudy, interval: float, should_stop: Callable[[], bool]) -> None:
        self.study, self.interval, self.should_stop = study, interval, should_stop
        self.stop = StopFlag()
        self._trials: list[Trial] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Run the thread; SIGTERM and Ctrl-C ask to stop, a second Ctrl-C stops at once."""
        with self.stop.handling_signals():
            self._thread.start()
            try:
                yield
            finally:
                self._ended.set()
                self._thread.join()

    @contextmanager
    def of(self, trial: Trial) -> Iterator[None]:
        self._trials.append(trial)
        try:
            yield
        finally:
            self._trials.remove(trial)

    def _run(self) -> None:
        due, count = 0.0, 0
        while not self._ended.wait(min(STOP_CHECK, self.interval)):
            if self.should_stop():
                self.stop.set()
            if time.monotonic() >= due:
                due, count = time.monotonic() + self.interval, count + 1
                self._beat(count)

    def _beat(self, count: int) -> None:
        try:
            for trial in tuple(self._trials):
                with suppress(UpdateFinishedTrialError):  # it has just ended
                    self.study.beat(trial, count)
            self.study.look()
        except Exception as error:
            log.warning("no heartbeat (%s); trying again in %g s", error, self.interval)


@dataclass
class Worker:
    """The task function of a worker job; picklable.

    `folder` is the study's, absolute. `dependent` says that the worker is a child of the process `parent` and is to
    end with it (joblib), rather than a job of a cluster.
    """

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

    def __call__(self, cfg: DictConfig) -> None:
        index = int(HydraConfig.get().job.num)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study, orphaned = self.study(), self.detach()
        stop = self.folder / stop_file(self.launch)
        pulse = Pulse(study, float(self.settings.heartbeat), lambda: stop.exists() or orphaned())
        lockstep = Lockstep(self.settings.trials_per_worker, lambda: self.serve(study, pulse, index, lockstep))
        with pulse.beating():
            lockstep.run()
        if orphaned():
            os._exit(1)  # a process of joblib's would wait five minutes more for another job

    def serve(self, study: SharedStudy, pulse: Pulse, index: int, lockstep: Lockstep) -> None:
        """Run one trial after the other, until the study has its total."""
        while not (pulse.stop.is_set() or study.finished() or study.failing(self.settings.max_failure_rate)):
            trial = study.ask(functools.partial(self.sampler, stage="options", index=index), index)
            if trial is None:
                lockstep.run_in_background(lambda: pulse.stop.wait(min(IDLE_CHECK, pulse.interval)))
            else:
                with pulse.of(trial):
                    self.work(study, trial, index, pulse.stop, lockstep)

    def detach(self) -> Callable[[], bool]:
        """Make this process deaf to the terminal's Ctrl-C, which the parent passes on; whether its parent is dead."""
        if self.parent == os.getpid():
            return lambda: False
        with suppress(OSError):  # a process that leads a session already is deaf
            os.setpgid(0, 0)
        return lambda: self.dependent and os.getppid() != self.parent

    @property
    def settings(self) -> DictConfig:
        return self.config.hydra.sweeper

    def study(self) -> SharedStudy:
        pruner = instantiate(self.settings.pruner, _execution_whitelist_=("optuna.pruners.*",))
        settings = self.settings
        return SharedStudy(self.url, settings.study_name, self.folder, settings.n_trials, pruner, settings.max_deaths)

    def sampler(self, number: int, stage: str, index: int) -> BaseSampler:
        """The sampler of one trial, seeded by its number: a sweep that was stopped goes on as if it had not been."""
        config = OmegaConf.to_container(self.settings.sampler)
        assert isinstance(config, dict)
        make = instantiate(
            config | {"_partial_": True},
            _execution_whitelist_=("hydra_plugins.hydra_optuna_sweeper.*", "optuna.samplers.*"),
        )
        seed = config.get("seed")
        if make.func is GridSampler:
            return make(grid(self.space), seed=seed or 0)  # all workers must lay out the same grid
        if make.func is QMCSampler or seed is None:
            return make()
        return make(seed=random.Random(f"{seed} {number} {stage} {index}").getrandbits(32))

    def draw(self, study: SharedStudy, trial: Trial, index: int) -> list[str]:
        """Sample the trial's parameters; its overrides."""
        active = spaces.active(self.space, trial._suggest)
        options = {key: trial.params[key] for key in trial.params if key not in active.distributions}
        sampling = trial
        if options:
            study.study.sampler = self.sampler(trial.number, "values", index)
            sampling = Trial(Branch(study.study, options), trial._trial_id)
        for key, distribution in active.distributions.items():
            sampling._suggest(key, distribution)
        if self.settings.custom_search_space:
            instantiate({"_target_": self.settings.custom_search_space, "_partial_": True})(self.config, sampling)
        params = sampling.params
        return [*active.fixed.values(), *(f"{key}={value}" for key, value in params.items())]

    def work(self, study: SharedStudy, trial: Trial, index: int, stop: StopFlag, lockstep: Lockstep) -> None:
        """Run one trial, and tell the study what came of it."""
        try:
            drawn = self.draw(study, trial, index)
            reporter, resume = self.inherit(study, trial, stop, lockstep)
            value = self.run([*self.overrides, *drawn, *self.share(index), *resume], trial.number, reporter)
            study.complete(trial, float(value))
        except Pruned:
            study.prune(trial)
        except TakenOver as error:
            log.warning("%s", error)
        except Interrupted as error:
            stop.set()
            study.hand_back(trial, str(error))
        except KeyboardInterrupt:
            study.hand_back(trial, "stopped at once")
            raise
        except Diverged as error:
            study.fail(trial, "diverged", str(error))
        except Exception as error:
            study.fail(trial, "failed", f"{type(error).__name__}: {error}")

    def share(self, index: int) -> list[str]:
        """The worker's own device, where there are several."""
        return [f"device=cuda:{index % self.devices}"] if self.devices > 1 else []

    def inherit(
        self, study: SharedStudy, trial: Trial, stop: StopFlag, lockstep: Lockstep
    ) -> tuple[TrialReporter, list[str]]:
        """What a trial goes on from: the checkpoint of the trial it tries again, or a run, and the epochs before it."""
        frozen = study.storage.get_trial(trial._trial_id)
        reporter = TrialReporter(trial, stop, lockstep)
        # named by number: one killed before it was signed has no attributes
        before = [self.folder / str(t.number) for t in lineage(frozen, study.trials())]
        before += [(self.folder / frozen.user_attrs["resume"]).resolve()] if "resume" in frozen.user_attrs else []
        for folder in before:
            if (folder / "checkpoint.pt").exists():
                reporter.repeat(folder / "metrics.csv")
                return reporter, [f"resume={quoted(str(folder))}"]
        return reporter, []

    def run(self, overrides: list[str], number: int, reporter: Reporter) -> Any:
        """One job in the trial's own folder, logging to a file there; its value, or the exception it raised."""
        quiet = "hydra.job_logging.root.handlers=[file]"
        config = self.hydra_context.config_loader.load_sweep_config(self.config, [*overrides, quiet])
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number

        def task(cfg: DictConfig) -> Any:
            with own_log(number):
                try:
                    return self.task_function(cfg, reporter)
                except (Pruned, Diverged) as ending:
                    log.getChild("trial").info("%s", ending)
                    return ending  # Hydra would log a failure, with a traceback

        before = RUNNING.set(number)
        try:
            job = run_job(
                hydra_context=self.hydra_context,
                task_function=task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        finally:
            RUNNING.reset(before)
        if isinstance(job._return_value, Exception):
            raise job._return_value
        return job._return_value


@contextmanager
def own_log(number: int) -> Iterator[None]:
    """Where Hydra has just set up one trial's log, taking down those of the others: bring them back, each its own."""
    root = logging.getLogger()
    mine = list(root.handlers)
    for handler in mine:
        handler.addFilter(lambda record: RUNNING.get() == number or record.name == __name__)
    LOGS.extend(mine)
    root.handlers[:] = LOGS
    try:
        yield
    finally:
        for handler in mine:
            LOGS.remove(handler)


def quoted(text: str) -> str:
    """A text as the value of a Hydra override."""
    return "'" + text.replace("'", "\\'") + "'"


def stop_file(launch: str) -> str:
    """Its presence in the study's folder asks the workers of this launch to stop after their step."""
    return f".stop-{launch}"


def grid(space: Space) -> dict[str, Any]:
    """The values of every key of a discrete space, as GridSampler wants them."""
    from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

    return {key: OptunaSweeperImpl._to_grid_sampler_choices(d) for key, d in space.distributions.items()}

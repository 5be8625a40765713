"""The parent of a sweep: check everything, launch the workers, show how it goes, sum up."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus, configure_log
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from cifar.errors import UserError
from cifar.options.check import check
from cifar.options.option import ConfigError
from cifar.reporting import Interrupted
from cifar.signals import StopFlag
from cifar.sweep import best as best_file
from cifar.sweep import space as spaces
from cifar.sweep import study as studies
from cifar.sweep.lockstep import STREAMS
from cifar.sweep.space import Space, SpaceError
from cifar.sweep.study import SharedStudy
from cifar.sweep.worker import Worker, grid, quoted, stop_file

NAMED_AFTER = ("data", "model", "optimizer", "scheduler", "transfer", "search")
"""The groups whose options make the default name of a study."""
MACHINE = ("device", "threads", "cuda_graph", "cache", "resume", "test", "data.root", "from_study", "tracker")
"""Settings that may change between two runs of the same study: they say where, not what."""
WHOLE_PROCESS = ("device", "threads", "deterministic")
"""Settings that all trials of a process share."""
POLL = 1.0
"""Seconds between two looks at the study, to show it."""


class SweepError(UserError):
    """A sweep that has failed as a whole."""


@dataclass
class Plan:
    """What is searched and how: all that is decided before the study is opened."""

    config: DictConfig
    space: Space
    fixed: dict[str, Any]
    url: str
    folder: Path

    @property
    def settings(self) -> DictConfig:
        return self.config.hydra.sweeper


def sweep(context: HydraContext, task_function: TaskFunction, config: DictConfig, arguments: list[str]) -> None:
    """Search until the study has its total. Raises Interrupted or SweepError where it has not in the end."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_settings(config.hydra)
    plan = make_plan(context, config, arguments)
    to_compare = {"fixed": plan.fixed, "space": spaces.to_json(replace(plan.space, fixed={}))}
    name, towards = plan.settings.study_name, direction(plan.settings.direction)
    studies.create(plan.url, name, plan.folder, towards, to_compare, list(plan.space.fixed.values()))
    conclude(plan, run_trials(context, task_function, plan, lambda best: write_best(plan, best)))


def run_trials(
    context: HydraContext, task_function: TaskFunction, plan: Plan, on_best: Callable[[FrozenTrial], None]
) -> SharedStudy:
    """Have workers run what the study's total lacks, and show how it goes; `on_best` hears of each new best trial."""
    settings = plan.settings
    study = SharedStudy(
        plan.url, settings.study_name, plan.folder, settings.n_trials, optuna.pruners.NopPruner(), settings.max_deaths
    )
    print(greeting(plan, study), flush=True)
    if not study.finished():
        worker = make_worker(context, task_function, plan)
        with View(study, on_best):
            launch(context, plan, study, worker)
    return study


def check_settings(hydra: DictConfig) -> None:
    """Raises SweepError for a value out of range."""
    settings = hydra.sweeper
    direction(settings.direction)
    if hydra.job.chdir:
        raise SweepError("hydra.job.chdir=true: not allowed, the trials of a search share a process; allowed: false")
    for key, low, high in (
        ("n_trials", 1, math.inf),
        ("n_jobs", 1, math.inf),
        ("trials_per_worker", 1, STREAMS),
        ("max_failure_rate", 0, 1),
        ("max_deaths", 1, math.inf),
        ("heartbeat", 0.1, 3600),
        ("top", 1, math.inf),
        ("seeds", 1, math.inf),
    ):
        if key in settings and not low <= settings[key] <= high:
            raise SweepError(f"hydra.sweeper.{key}={settings[key]}: not allowed; allowed: from {low} to {high}")


def direction(value: Any) -> str:
    """The one direction of the search, by name. Raises SweepError for several."""
    name = str(getattr(value, "name", value))
    if name not in ("minimize", "maximize"):
        raise SweepError(f"hydra.sweeper.direction={value}: not supported; allowed: maximize, minimize")
    return name


def make_plan(context: HydraContext, config: DictConfig, arguments: list[str]) -> Plan:
    """Complete the settings, build the space, and check both."""
    loader = context.config_loader
    explicit = spaces.parse([f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()])
    command_line = spaces.parse(arguments)
    choices = {
        group: str(option)
        for group, option in config.hydra.runtime.choices.items()
        if option is not None and not group.startswith("hydra/") and group != "search"
    }
    explicit = merged(explicit, command_line)
    space = spaces.build(explicit, choices, loader.get_group_options, lambda option: entries(context, option))
    named = space.fixed.pop("search", None)
    whole = [key for key in WHOLE_PROCESS if key in space.distributions]
    if whole and config.hydra.sweeper.trials_per_worker > 1:
        raise SpaceError(
            f"{whole[0]}: cannot be searched with hydra.sweeper.trials_per_worker above 1, it is the process's"
        )
    if not space.distributions:
        raise SpaceError(
            f"nothing to search: no conf/search/<option>.yaml for {', '.join(choices.values())}, and no sweep on the"
            " command line; give one, as optimizer.lr=tag(log,interval(1e-3,1e-1))"
        )
    name = config.hydra.sweeper.study_name or default_name(config, space)
    total = total_of(config.hydra.sweeper, space)
    config = complete(context, config, arguments, name, f"sweeps/{name}", total)
    if named:
        config.hydra.overrides.hydra.append(named)  # shapes hydra.sweeper, which must be the same in every trial
    folder = Path(config.hydra.sweep.dir).resolve()
    url = config.hydra.sweeper.storage or f"sqlite:///{folder / 'study.db'}"
    check_space(context, config, space)
    fixed = fixed_settings(context, config, space)
    return Plan(config, space, fixed, str(url), folder)


def merged(files: Space, command_line: Space) -> Space:
    """Both spaces; the command line wins."""
    keys = {*command_line.distributions, *command_line.fixed}
    return Space(
        {k: d for k, d in files.distributions.items() if k not in keys} | command_line.distributions,
        {k: line for k, line in files.fixed.items() if k not in keys} | command_line.fixed,
    )


def entries(context: HydraContext, option: str) -> Mapping[str, Any]:
    """The entries of conf/search/<option>.yaml, empty where there is none."""
    if option not in context.config_loader.get_group_options("search"):
        return {}
    loaded = context.config_loader.repository.load_config(f"search/{option}")  # type: ignore[attr-defined]
    return dict(loaded.config)


def complete(
    context: HydraContext,
    config: DictConfig,
    arguments: list[str],
    name: str,
    folder: str,
    total: int,
    url: str | None = None,
) -> DictConfig:
    """The config with what follows from the others: the study's name, folder, total and storage, and the launcher."""
    sweeper, given = config.hydra.sweeper, list(config.hydra.overrides.hydra)
    extra = [f"hydra.sweeper.study_name={quoted(name)}", f"hydra.sweeper.n_trials={total}"]
    extra.append("hydra.sweep.subdir=${hydra.job.num}")
    extra += [f"hydra.sweeper.storage={quoted(url)}"] if url else []
    extra.append("hydra.hydra_logging.root.level=WARNING")  # launchers tell of their jobs, which are workers here
    if not any(line.startswith("hydra.sweep.dir=") for line in given):
        extra.append(f"hydra.sweep.dir={quoted(folder)}")
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if sweeper.n_jobs > 1 and not any(line.startswith("hydra/launcher=") for line in given):
        launcher = "joblib"
        extra.append("hydra/launcher=joblib")
    if launcher == "joblib" and not any(line.startswith("hydra.launcher.n_jobs=") for line in given):
        extra.append(f"hydra.launcher.n_jobs={sweeper.n_jobs}")
    return context.config_loader.load_configuration(
        config.hydra.job.config_name, [*given, *arguments, *extra], RunMode.MULTIRUN
    )


def total_of(settings: DictConfig, space: Space) -> int:
    """How many trials there are to be; of a grid no more than it has."""
    grid = settings.sampler._target_ == "optuna.samplers.GridSampler"
    return min(settings.n_trials, grid_size(space)) if grid else int(settings.n_trials)


def grid_size(space: Space) -> int:
    """How many trials a grid has. Raises SpaceError where there is none."""
    if space.options:
        raise SpaceError(f"hydra/sweeper/sampler=grid: no grid where {', '.join(space.options)} is searched too")
    endless = [key for key, d in space.distributions.items() if isinstance(d, FloatDistribution) and not d.step]
    if endless:
        raise SpaceError(f"{', '.join(endless)}: no grid over an interval; allowed: choice(...), range(...)")
    return math.prod(len(values) for values in grid(space).values())


def default_name(config: DictConfig, space: Space) -> str:
    """What the study is of: cifar10-resnet14-sgd-plateau; options that are searched are joined by +."""
    choices = config.hydra.runtime.choices
    parts = ["+".join(space.options[g]) if g in space.options else str(choices.get(g) or "") for g in NAMED_AFTER]
    return "-".join(re.sub(r"[^\w.+]+", "+", part).strip("+") for part in parts if part and part != "none")


def fixed_settings(context: HydraContext, config: DictConfig, space: Space) -> dict[str, Any]:
    """The settings that no trial changes. Raises ConfigError for those that do not belong in a search."""
    cfg = context.config_loader.load_sweep_config(config, list(space.fixed.values()))
    if cfg.test or cfg.resume:
        raise ConfigError(
            f"test={cfg.test}, resume={cfg.resume}: not in a search, which sees no test images and resumes by itself;"
            " allowed: test=false resume=null (then: python run.py -m hydra/sweeper=confirm hydra.sweeper.study=DIR)"
        )
    return without(cfg, [*space.distributions, *MACHINE, "hydra"])


def check_space(context: HydraContext, config: DictConfig, space: Space) -> None:
    """Compose and check every end of every range, in every branch. Raises SpaceError for the first that is wrong."""
    for options, branch in spaces.branches(space):
        drawn = [f"{group}={option}" for group, option in options.items()]
        common = [*space.fixed.values(), *(branch.fixed.values() if options else ()), *drawn]
        for attempt in spaces.ends(branch):
            try:
                check(context.config_loader.load_sweep_config(config, [*common, attempt]))
            except (ConfigError, HydraException) as error:
                where = f" with {' '.join(drawn)}" if drawn else ""
                raise SpaceError(f"the search would try {attempt}{where}: {error}") from error


def without(cfg: DictConfig, keys: list[str]) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    for key in keys:
        *parents, last = key.lstrip("+").replace("/", ".").split(".")
        node: Any = plain
        for parent in parents:
            node = node.get(parent, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node.pop(last, None)
    return {str(key): value for key, value in plain.items()}


def make_worker(context: HydraContext, task_function: TaskFunction, plan: Plan) -> Worker:
    keys = plan.space.fixed.keys()
    jobs = plan.settings.n_jobs
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return Worker(
        task_function=task_function,
        hydra_context=context,
        config=plan.config,
        space=plan.space,
        url=plan.url,
        folder=plan.folder,
        overrides=[] if jobs == 1 or "threads" in keys else [f"threads={threads}"],
        devices=0 if "device" in keys else cuda_devices(),
        parent=os.getpid(),
        dependent=plan.config.hydra.runtime.choices["hydra/launcher"] == "joblib",
        launch=uuid.uuid4().hex[:8],
    )


def cuda_devices() -> int:
    """How many CUDA devices this process may use, found without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([device for device in named.split(",") if device.strip() not in ("", "-1")])
    found = Path("/proc/driver/nvidia/gpus")
    return len(list(found.iterdir())) if found.exists() else 0


def launch(context: HydraContext, plan: Plan, study: SharedStudy, worker: Worker) -> None:
    """Run the workers, and run them again where one was killed and took the others along."""
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=worker, config=plan.config)
    configure_log(plan.config.hydra.hydra_logging, plan.config.hydra.verbose)
    root = str(Path(__file__).parents[2])  # where workers that start afresh (submitit) find this package
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    jobs = [[f"hydra.sweep.subdir=.workers/{i}", "hydra.output_subdir=null"] for i in range(plan.settings.n_jobs)]
    with stoppable(plan.folder / stop_file(worker.launch)) as stopping:
        while True:
            asked = len(study.trials())
            try:
                returns = launcher.launch(jobs, initial_job_idx=0)
            except Exception as error:
                if stopping.is_set():  # the signal may have gone to workers that could not hear it yet
                    return
                if type(error).__name__ != "TerminatedWorkerError" or len(study.trials()) == asked:
                    raise
                print("a worker was killed; starting the workers again", flush=True)
                continue
            for job in returns:
                if job.status is JobStatus.FAILED:
                    raise job._return_value
            return


@contextmanager
def stoppable(stop: Path) -> Iterator[StopFlag]:
    """Ctrl-C and SIGTERM ask the workers to stop after their step; a second Ctrl-C stops at once."""

    def announce() -> None:
        stop.touch()
        print("\nstopping after the current step; Ctrl-C again to stop at once", flush=True)

    flag = StopFlag(announce)
    try:
        with flag.handling_signals():
            yield flag
    finally:
        stop.unlink(missing_ok=True)


class View:
    """Shows the sweep while it runs: a live line on a terminal, else a line for each trial that ends."""

    def __init__(self, study: SharedStudy, on_best: Callable[[FrozenTrial], None]) -> None:
        self.study, self.on_best = study, on_best
        self.begun = time.monotonic()
        self.shown = {t.number for t in study.trials() if t.state.is_finished()}
        self.finished_before = len(self.shown)
        self.live = sys.stdout.isatty()
        self.best: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> View:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.show()
        print(flush=True, end="\n" if self.live else "")

    def _run(self) -> None:
        while not self._ended.wait(POLL):
            self.show()

    def show(self) -> None:
        trials = self.study.trials()
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self.shown:
                self.shown.add(trial.number)
                print(("\r\x1b[K" if self.live else "") + describe(trial), flush=True)
        best = best_of(self.study.study)
        if best is not None and best.number != self.best:
            self.best = best.number
            self.on_best(best)
        if self.live:
            print("\r\x1b[K" + status(trials, self.study.total, best, self._time_left(trials)), end="", flush=True)

    def _time_left(self, trials: list[FrozenTrial]) -> float:
        """Seconds, by the pace of this sweep so far; infinite where nothing has ended yet."""
        ended = sum(studies.counts(t) and t.state.is_finished() for t in trials)
        pace = (ended - self.finished_before) / (time.monotonic() - self.begun)
        return (self.study.total - ended) / pace if pace > 0 else float("inf")


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first; of equals the earlier."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda t: (sign * t.values[0], t.number))


def best_of(study: optuna.Study) -> FrozenTrial | None:
    return next(iter(ranked(study)), None)


def parameters(trial: FrozenTrial) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())


def describe(trial: FrozenTrial) -> str:
    """One line for a trial that has ended."""
    end = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned"}.get(trial.state)
    what = end or trial.user_attrs.get("outcome", "failed")
    value = f" {trial.value:.4f}" if trial.value is not None else ""
    reason = f" ({trial.user_attrs['reason']})" if "reason" in trial.user_attrs and end is None else ""
    return f"trial {trial.number} {what}{value} · {parameters(trial)}{reason}"


def status(trials: list[FrozenTrial], total: int, best: FrozenTrial | None, seconds: float) -> str:
    """done/pruned/failed/running of total, the best so far, the time left."""

    def number(state: TrialState) -> int:
        return sum(t.state == state and studies.counts(t) for t in trials)

    line = f"{number(TrialState.COMPLETE)} done, {number(TrialState.PRUNED)} pruned, {number(TrialState.FAIL)} failed,"
    line += f" {number(TrialState.RUNNING)} running of {total}"
    line += f" · best {best.value:.4f} (trial {best.number}: {parameters(best)})" if best else ""
    return line + (f" · {seconds / 60:.0f} min left" if seconds < float("inf") else "")


def greeting(plan: Plan, study: SharedStudy) -> str:
    trials = study.trials()
    ended = sum(studies.counts(t) and t.state.is_finished() for t in trials)
    begins = f"study {plan.settings.study_name} in {os.path.relpath(plan.folder)}: "
    if study.finished():
        return begins + f"all {study.total} trials are done; nothing is left (more: hydra.sweeper.n_trials=N)"
    return begins + (f"{ended} of {study.total} trials are done, going on" if ended else f"{study.total} trials")


def conclude(plan: Plan, study: SharedStudy) -> None:
    """Write and show the results; say what is missing."""
    best = best_of(study.study)
    if best is not None:
        write_best(plan, best)
        print(answer(study.study, plan.folder), flush=True)
    demand_enough(plan, study)


def answer(study: optuna.Study, folder: Path) -> str:
    """What is best, how sure that is, and what to do next."""
    from analysis import frames, summary  # not before it is needed: pandas and scipy take a second

    return summary.text(summary.summarize(frames.of_study(study, os.path.relpath(folder), folder)))


def demand_enough(plan: Plan, study: SharedStudy) -> None:
    """Raises SweepError where too many trials failed, Interrupted where some are still to come."""
    trials = study.trials()
    failures = study.failures()
    if study.failing(plan.settings.max_failure_rate) or (study.finished() and best_of(study.study) is None):
        log = f"; its log: {plan.folder / str(failures[0].number)}" if failures else ""
        first = failures[0].user_attrs.get("reason", "unknown") if failures else "every other trial was pruned"
        raise SweepError(
            f"{len(failures)} of {study.total} trials failed (allowed: hydra.sweeper.max_failure_rate="
            f"{plan.settings.max_failure_rate}); the first: {first}{log}"
        )
    if not study.finished():
        ended = sum(studies.counts(t) and t.state.is_finished() for t in trials)
        raise Interrupted(f"stopped with {ended} of {study.total} trials done; the same command goes on", signal.SIGINT)


def write_best(plan: Plan, best: FrozenTrial) -> None:
    """best.yaml, from which from_study= reads, and optimization_results.yaml, as the stock plugin writes it."""
    results = {"name": "optuna", "best_params": best.params, "best_value": best.value, "trial": best.number}
    best_file.save(plan.folder / "optimization_results.yaml", results | {"folder": str(plan.folder / str(best.number))})
    best_file.save(plan.folder / best_file.NAME, settings_of(best, plan.settings.study_name, plan.folder, plan.space))


def settings_of(trial: FrozenTrial, study: str, folder: Path, space: Space) -> dict[str, Any]:
    """All that it takes to train with a trial's settings."""
    overrides = overrides_of(trial, space)
    found = {"study": study, "value": trial.value, "params": trial.params, "trial": trial.number}
    return found | {
        "folder": str(folder / str(trial.number)),
        "overrides": overrides,
        "command": shlex.join(["python", "run.py", *overrides]),
    }


def overrides_of(trial: FrozenTrial, space: Space) -> list[str]:
    """The command line of a trial."""
    fixed = spaces.active(space, lambda key, distribution: trial.params[key]).fixed
    return [*fixed.values(), *(f"{key}={value}" for key, value in trial.params.items())]

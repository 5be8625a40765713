"""The parent process of a search: launches the workers, shows the progress, and ends with the outcome."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from optuna.trial import FrozenTrial

from cifar import layout
from cifar.cores import available_cores
from cifar.signals import StopFlag
from cifar.sweep import space as spaces
from cifar.sweep import study as studies
from cifar.sweep.app import Invocation
from cifar.sweep.content import unknown_content
from cifar.sweep.optuna_private import job_result
from cifar.sweep.outcome import conclude, write_best
from cifar.sweep.plan import Plan, at_start, check_settings, make_plan
from cifar.sweep.progress import View, greeting
from cifar.sweep.stored import check_trials, existing, stored_space
from cifar.sweep.study import SharedStudy
from cifar.sweep.worker import Worker, stop_file_name


def sweep(call: Invocation) -> None:
    """Search until the study has its total.

    Raises Interrupted where the search was stopped before, SweepError where too many of its trials failed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_settings(call.config.hydra, call.app)
    call = at_start(call)
    plan = make_plan(call)
    before = existing(plan.url, plan.settings.study_name)
    former = call.app.former_overrides(before.user_attrs.get("fixed") or {}) if before else []
    if former:
        call = replace(call, arguments=[*former, *call.arguments])  # those of the command line win
        plan = make_plan(call)
    space = stored_space(before, spaces.to_json(replace(plan.space, fixed={})))
    plan = replace(plan, space=replace(spaces.from_json(space), fixed=plan.space.fixed))
    if before:
        check_trials(call, plan, before)
    overrides = list(plan.space.fixed.values())
    studies.create(
        plan.url,
        plan.settings.study_name,
        plan.folder,
        plan.direction,
        {"fixed": plan.fixed, "options": plan.options, "space": space, "overrides": overrides},
        call.app.upgrade_settings,
        plan.metric,
    )
    if plan.settings.retry_failed:
        number = open_shared(plan).replace_failed()
        print(f"failed trials that run once more: {number}", flush=True)
    study = run_trials(call, plan, lambda best: write_best(plan, call.app, best))
    study.study.set_user_attr("overrides", overrides)  # not those of a start that is refused for its images
    conclude(plan, call.app, study)


def run_trials(call: Invocation, plan: Plan, on_best: Callable[[FrozenTrial], None]) -> SharedStudy:
    """Have workers run what the study lacks to its total, and show the progress.

    `on_best` is called with each new best trial.
    """
    study = open_shared(plan)
    print(greeting(plan, study), flush=True)
    if not study.finished():
        if unknown_content(study.trials(), call.app, plan.folder):
            print(
                "what its trials were trained on is not known: the images of the next one are recorded for the study",
                flush=True,
            )
        with View(study, on_best, plan.metric):
            launch(call, plan, study)
    return study


def open_shared(plan: Plan) -> SharedStudy:
    """The study as the parent sees it: it prunes nothing."""
    settings = plan.settings
    return SharedStudy(
        plan.url, settings.study_name, plan.folder, settings.n_trials, optuna.pruners.NopPruner(), settings.max_deaths
    )


def make_worker(call: Invocation, plan: Plan) -> Worker:
    keys, app, jobs = plan.space.decided | spaces.everywhere(plan.space), call.app, plan.settings.n_jobs
    threads = max(1, available_cores() // jobs)
    share_threads = jobs > 1 and app.threads_key is not None and app.threads_key not in keys
    share_devices = app.device_key is not None and app.device_key not in keys
    return Worker(
        app=app,
        task_function=call.task_function,
        hydra_context=call.context,
        config=plan.config,
        space=plan.space,
        url=plan.url,
        folder=plan.folder,
        overrides=[f"{app.threads_key}={threads}"] if share_threads else [],
        devices=cuda_devices() if share_devices else 0,
        parent=os.getpid(),
        dependent=plan.config.hydra.runtime.choices["hydra/launcher"] == "joblib",
        launch=uuid.uuid4().hex[:8],
        contents=plan.contents,
        metric=plan.metric,
    )


def cuda_devices() -> int:
    """How many CUDA devices this process may use, counted without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    of_driver = Path("/proc/driver/nvidia/gpus")
    return len(list(of_driver.iterdir())) if of_driver.exists() else 0


def launch(call: Invocation, plan: Plan, study: SharedStudy) -> None:
    """Run the workers, and run them again where one was killed and took the others along."""
    worker = make_worker(call, plan)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=call.context, task_function=worker, config=plan.config
    )
    configure_log(plan.config.hydra.hydra_logging, plan.config.hydra.verbose)
    if not layout.INSTALLED:  # workers in new processes (submitit) find the package there
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(layout.ROOT), os.environ.get("PYTHONPATH"))))
    with stoppable(plan.folder / stop_file_name(worker.launch)) as stop:
        while run_workers(launcher, plan, study, stop):
            print("a worker was killed; starting the workers again", flush=True)


def run_workers(launcher: Launcher, plan: Plan, study: SharedStudy, stop: StopFlag) -> bool:
    """Run the workers to their end. Returns whether they have to run again; raises what one of them raised."""
    jobs = [[f"hydra.sweep.subdir=.workers/{i}", "hydra.output_subdir=null"] for i in range(plan.settings.n_jobs)]
    trials_before = len(study.trials())
    uses_joblib = plan.config.hydra.runtime.choices["hydra/launcher"] == "joblib"
    try:
        with blocked_sigint() if uses_joblib else nullcontext():
            returns = launcher.launch(jobs, initial_job_idx=0)
    except Exception as error:
        if stop.is_set():  # the signal may have reached workers that did not handle it yet
            return False
        was_killed = type(error).__name__ == "TerminatedWorkerError"
        if was_killed and len(study.trials()) > trials_before:
            return True
        raise
    for job in returns:
        if job.status is JobStatus.FAILED:
            raise job_result(job)
    return False


@contextmanager
def blocked_sigint() -> Iterator[None]:
    """Processes that begin in the block start with SIGINT blocked, or Ctrl-C would be a traceback of their imports.

    The worker unblocks it. Another thread of this process, that of View, receives the signal meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # of Python: it unblocks SIGINT when it starts, which must be before
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stoppable(stop_file: Path) -> Iterator[StopFlag]:
    """Ctrl-C and SIGTERM ask the workers to stop after their step; a second one stops at once."""

    def announce() -> None:
        stop_file.touch()
        print("\nstopping after the current step; Ctrl-C again to stop at once", flush=True)

    flag = StopFlag(announce, at_once=(signal.SIGINT, signal.SIGTERM))
    try:
        with flag.handling_signals():
            yield flag
    finally:
        stop_file.unlink(missing_ok=True)

"""The outcome of a search: its best trial, the files that hold it, and the errors for a search that is not complete."""

from __future__ import annotations

import re
import signal
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cifar import config_dir
from cifar.commands import command
from cifar.errors import UserError
from cifar.files import BEST_TRIAL, write_atomically
from cifar.overrides import to_text
from cifar.reporting import Interrupted
from cifar.sweep.app import SearchedApp
from cifar.sweep.plan import Plan, SweepError
from cifar.sweep.space import Space, overrides_of
from cifar.sweep.storage import read_trials
from cifar.sweep.study import SharedStudy
from cifar.sweep.trials import folder_of


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, best first; of equals the earlier first."""
    complete = [trial for trial in read_trials(study) if trial.state == TrialState.COMPLETE]
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sorted(complete, key=lambda t: (sign * t.values[0], t.number))


def best_of(study: optuna.Study) -> FrozenTrial | None:
    return next(iter(ranked(study)), None)


def all_complete(runs: list[FrozenTrial]) -> bool:
    return all(t.state == TrialState.COMPLETE for t in runs)


def mean(runs: list[FrozenTrial]) -> float:
    return float(statistics.mean(t.values[0] for t in runs))


@contextmanager
def by_keys_of_confirmation(test_key: str) -> Iterator[None]:
    """Errors that name TEST_KEY=false, of a run, name what a confirmation has instead."""
    try:
        yield
    except UserError as error:
        message = re.sub(rf"(?<![\w.]){re.escape(test_key)}=false", "hydra.sweeper.test=false", str(error))
        if message == str(error):
            raise
        raise SweepError(f"the test set cannot be evaluated: {message}") from error


def conclude(plan: Plan, app: SearchedApp, study: SharedStudy) -> None:
    """Write and print the results. Raises SweepError or Interrupted where they are not complete."""
    best = best_of(study.study)
    if best is not None:
        write_best(plan, app, best)
        print(closing_text(app, study.study, plan.folder), flush=True)
    check_complete(plan, study)


def closing_text(app: SearchedApp, study: optuna.Study, folder: Path) -> str:
    """What the app says at the end of a search; where it says nothing, the best trial."""
    if app.at_end is not None:
        return app.at_end(study, folder)
    best = best_of(study)
    return f"best: trial {best.number}, value {best.value:.6g}: {parameters(best)}" if best else ""


def parameters(trial: FrozenTrial) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())


def check_complete(plan: Plan, study: SharedStudy) -> None:
    """Raises SweepError where too many trials failed or none is complete, Interrupted where some are still to come."""
    failures = study.failures()
    none_complete = study.finished() and best_of(study.study) is None
    if study.failing(plan.settings.max_failure_rate) or none_complete:
        log = f"; its log: {plan.folder / folder_of(failures[0])}" if failures else ""
        first = failures[0].user_attrs.get("reason", "unknown") if failures else "every other trial was pruned"
        raise SweepError(
            f"{len(failures)} of {study.total} trials failed (allowed: hydra.sweeper.max_failure_rate="
            f"{plan.settings.max_failure_rate}); the first: {first}{log}"
        )
    if not study.finished():
        progress = f"stopped with {study.ended()} of {study.total} trials done"
        raise Interrupted(f"{progress}; the same command resumes the search", signal.SIGINT)


def write_best(plan: Plan, app: SearchedApp, best: FrozenTrial) -> None:
    """Write best.yaml, which from_study= reads, and optimization_results.yaml, as the stock plugin writes it."""
    results = {
        "name": "optuna",
        "best_params": best.params,
        "best_value": best.value,
        "trial": best.number,
        "folder": run_directory(best, plan.folder),
    }
    save(plan.folder / "optimization_results.yaml", results)
    settings = settings_of(best, app, plan.settings.study_name, plan.folder, plan.space)
    save(plan.folder / BEST_TRIAL, settings | {"settings": fixed_of(best, plan.fixed, plan.options)})


def run_directory(trial: FrozenTrial, folder: Path) -> str | None:
    """None where the trial was run by another program; `folder` is that of the study."""
    return str(folder / folder_of(trial)) if "folder" in trial.user_attrs else None


def execution_of(trial: FrozenTrial, app: SearchedApp, folder: Path) -> dict[str, Any]:
    """How a trial was executed, as far as its figures depend on it; `folder` is that of the study."""
    directory = run_directory(trial, folder)
    return dict(trial.user_attrs.get("execution") or (app.execution(Path(directory)) if directory else {}))


def settings_of(trial: FrozenTrial, app: SearchedApp, study: str, folder: Path, space: Space) -> dict[str, Any]:
    """All that it takes to run the app with a trial's settings and to get its figures, as best.yaml holds it."""
    directory = run_directory(trial, folder)
    execution = execution_of(trial, app, folder)
    decided = {key: value for key, value in execution.items() if key not in trial.params}
    overrides = [line for line in overrides_of(space, trial.params) if line.partition("=")[0] not in decided]
    overrides += [f"{key}={to_text(value)}" for key, value in decided.items()]
    options = config_dir.option(Path(directory)) if directory else []
    program = app.command or (Path(sys.argv[0]).name,)
    return {
        "study": study,
        "value": trial.value,
        "params": trial.params,
        "trial": trial.number,
        "folder": directory,
        "execution": execution,
        "overrides": overrides,
        "command": command(*options, *overrides, script=program[-1], with_trust=False),
    }


def confirmed_of(trial: FrozenTrial, runs: list[FrozenTrial], seeds: list[int], study: optuna.Study) -> dict[str, Any]:
    """What confirmed.yaml holds besides settings_of: `trial` of the search `study`, and its runs on these seeds."""
    stored = study.user_attrs
    return {"settings": fixed_of(trial, stored["fixed"], stored.get("options", {})), "mean": mean(runs), "seeds": seeds}


def fixed_of(trial: FrozenTrial, fixed: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a trial beside its parameters: the fixed ones, and those of the options that it drew."""
    drawn = {f"{key}={value}" for key, value in trial.params.items()}
    added = [settings for names, settings in options.items() if drawn.issuperset(names.split())]
    merged = OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.create, (dict(fixed), *map(dict, added)))))
    assert isinstance(merged, dict)
    return {str(key): value for key, value in merged.items()}


def save(path: Path, values: dict[str, Any]) -> None:
    """Write a YAML file; after a crash it is the old one or the new one."""
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    write_atomically(path, text.encode())

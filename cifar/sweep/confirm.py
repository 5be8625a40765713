"""The confirmation of a search: its best trials on fresh seeds, then the test set for the chosen one, once.

    sweeps/NAME/confirmation/study.db   a study of its own: a trial for each of the best trials and each fresh seed
    sweeps/NAME/confirmation/test-1/    the first look at the test set: the runs of the chosen trial, evaluated
    sweeps/NAME/confirmed.yaml          the chosen trial, from which from_study= reads

Both are run by the workers of a search, as trials that were enqueued, so both survive what a search survives. A look's
folder is its marker: it is made exclusively before any test image is read, and never removed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import optuna
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cifar.options.option import ConfigError
from cifar.sweep import best as best_file
from cifar.sweep import space as spaces
from cifar.sweep import study as studies
from cifar.sweep.space import Space
from cifar.sweep.study import SharedStudy
from cifar.sweep.sweeper import (
    Plan,
    SweepError,
    answer,
    check_settings,
    complete,
    demand_enough,
    fixed_settings,
    ranked,
    run_trials,
    settings_of,
)

FOLDER, LOOK = "confirmation", "test-"
SEEDS = IntDistribution(0, 2**32 - 1)


@dataclass(frozen=True)
class Search:
    """The search that is confirmed."""

    study: optuna.Study
    url: str
    folder: Path
    space: Space

    def within(self, folder: Path) -> tuple[str, str]:
        """The storage and the name of the study of a folder below its own."""
        own = self.url.startswith("sqlite:///")
        name = "-".join([self.study.study_name, *folder.relative_to(self.folder).parts])
        return f"sqlite:///{folder / 'study.db'}" if own else self.url, name

    @property
    def seeds(self) -> set[int]:
        """Those that it trained with."""
        drawn = {t.params["seed"] for t in self.study.get_trials(deepcopy=False) if "seed" in t.params}
        return drawn | {self.study.user_attrs["fixed"].get("seed", 0)}


def confirm(context: HydraContext, task_function: TaskFunction, config: DictConfig, arguments: list[str]) -> None:
    """Rerun the best trials, choose by the mean over fresh seeds, evaluate the test set for the chosen one.

    Raises SweepError where there is nothing to confirm, where every candidate failed, and where the test set was looked
    at before; Interrupted where it was stopped.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = config.hydra.sweeper
    check_settings(config.hydra)
    if any(line.startswith("hydra.sweep.dir=") for line in config.hydra.overrides.hydra):
        raise SweepError("hydra.sweep.dir: not of a confirmation, which lies in the folder of its search; leave it out")
    search = find(settings, arguments)
    run = partial(run_again, context, task_function, config, arguments, search)
    folder = search.folder / FOLDER
    candidates = ranked(search.study)[: settings.top]
    study = run(folder, reruns(candidates, fresh_seeds(settings.seeds, search.seeds)))
    chosen, runs = choose(study)
    best_file.save(search.folder / best_file.CONFIRMED, confirmed(search, chosen, runs))
    refused = None
    if settings.test:
        numbers = [t.number for t in runs]
        look, refused = next_look(search, numbers, settings.force)
        if look is not None:
            run(look, evaluations(runs), {"test": "test=true"}, {"runs": numbers})
    print(answer(search.study, search.folder), flush=True)
    if refused:
        raise SweepError(refused)


def run_again(
    context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    arguments: list[str],
    search: Search,
    folder: Path,
    trials: list[dict[str, Any]],
    extra: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> SharedStudy:
    """Run those of these trials that the study in `folder` lacks, with `extra` overrides, to the end of all.

    `settings` are the study's, beside the fixed ones.
    """
    space = replace(search.space, distributions=search.space.distributions | {"seed": SEEDS})
    fixed = same_settings(context, config, search, space)
    url, name = search.within(folder)
    studies.create(url, name, folder, search.study.direction.name, {"fixed": fixed, **(settings or {})})
    total = enqueue(url, name, folder, trials)
    whole = complete(context, config, arguments, name, str(folder), total, url)
    plan = Plan(whole, replace(space, fixed=space.fixed | dict(extra or {})), fixed, url, folder)
    study = run_trials(context, task_function, plan, lambda best: None)
    demand_enough(plan, study)
    return study


def find(settings: DictConfig, arguments: list[str]) -> Search:
    """The search that settings.study names. Raises SweepError where it cannot be confirmed."""
    from analysis import frames

    url, folder, name = frames.located(settings.study)
    study = frames.open_study(url, settings.study_name or name) if url else None
    if study is None or folder is None or "space" not in study.user_attrs:
        raise SweepError(
            f"hydra.sweeper.study={settings.study}: not the folder of a search of this program; allowed: the"
            " sweeps/NAME that python run.py -m hydra/sweeper=optuna wrote"
        )
    if not ranked(study):
        raise SweepError(
            f"hydra.sweeper.study={settings.study}: none of its trials is complete; nothing to confirm yet"
        )
    space = spaces.from_json(study.user_attrs["space"])
    given = spaces.parse(arguments)
    if given.distributions:
        raise SweepError(
            f"{', '.join(given.distributions)}: nothing is searched in a confirmation; allowed: fixed values"
        )
    space.fixed = spaces.parse(study.user_attrs["overrides"]).fixed | given.fixed
    return Search(study, str(url), folder.resolve(), space)


def same_settings(context: HydraContext, config: DictConfig, search: Search, space: Space) -> dict[str, Any]:
    """The fixed settings, which must be those of the search. Raises ConfigError where they are not."""
    fixed = fixed_settings(context, config, space)
    before = {key: value for key, value in search.study.user_attrs["fixed"].items() if key != "seed"}
    changes = studies.differences(before, fixed)
    if changes:
        raise ConfigError(
            f"not the settings of the search: {'; '.join(changes[:5])}; a confirmation cannot change them"
        )
    return fixed


def fresh_seeds(number: int, used: set[int]) -> list[int]:
    """The first seeds from 1 that were not used."""
    return list(islice((seed for seed in count(1) if seed not in used), number))


def seed(trial: FrozenTrial) -> int:
    return int(trial.params["seed"])


def pair(trial: FrozenTrial) -> tuple[int, int]:
    """The trial of the search that this one runs again, and its seed."""
    return trial.user_attrs["confirms"], seed(trial)


def reruns(candidates: list[FrozenTrial], seeds: list[int]) -> list[dict[str, Any]]:
    """What to enqueue: every candidate on a seed before any on the next, so that a part of it compares them all."""
    return [again(t, t.params | {"seed": seed}, confirms=t.number) for seed in seeds for t in candidates]


def evaluations(runs: list[FrozenTrial]) -> list[dict[str, Any]]:
    """What to enqueue to evaluate the test set with runs of the confirmation, which are over."""
    return [again(t, t.params, confirms=t.user_attrs["confirms"], resume=f"../{t.number}") for t in runs]


def again(trial: FrozenTrial, params: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """What studies.enqueue takes, beside the study."""
    return {"params": params, "distributions": trial.distributions | {"seed": SEEDS}, **attributes}


def enqueue(url: str, name: str, folder: Path, trials: list[dict[str, Any]]) -> int:
    """Enqueue those that the study does not have yet, or that failed; how many it has then, without retries."""
    with studies.lock(folder):
        study = optuna.load_study(study_name=name, storage=studies.open_storage(url))
        latest = {pair(t): t for t in study.get_trials(deepcopy=False)}
        failed = {p: t.number for p, t in latest.items() if studies.failed(t) and t.user_attrs["outcome"] == "failed"}
        for trial in trials:
            p = (trial["confirms"], trial["params"]["seed"])
            if p in failed:
                studies.enqueue(study, replaces=failed[p], **trial)
            elif p not in latest:
                studies.enqueue(study, **trial)
        return sum("retry_of" not in t.user_attrs for t in study.get_trials(deepcopy=False))


def choose(study: SharedStudy) -> tuple[int, list[FrozenTrial]]:
    """The candidate with the best mean, and its runs. Raises SweepError where all of them failed.

    One that failed on a seed is not chosen, nor one that ran on fewer seeds than others.
    """
    runs = defaultdict(list)
    for trial in {pair(t): t for t in study.trials() if studies.counts(t)}.values():  # of a pair the latest
        runs[trial.user_attrs["confirms"]].append(trial)
    seeds = max(map(len, runs.values()), default=0)
    sound = {
        n: own for n, own in runs.items() if len(own) == seeds and all(t.state == TrialState.COMPLETE for t in own)
    }
    if not sound:
        raise SweepError(
            "every candidate failed on a fresh seed, so none is confirmed; see the logs in their folders, or try more"
            " candidates (hydra.sweeper.top)"
        )
    sign = 1 if study.study.direction == StudyDirection.MAXIMIZE else -1
    chosen = max(sound, key=lambda n: sign * mean(sound[n]))
    return chosen, sorted(sound[chosen], key=lambda t: t.number)


def mean(runs: list[FrozenTrial]) -> float:
    return statistics.mean(t.values[0] for t in runs)


def confirmed(search: Search, chosen: int, runs: list[FrozenTrial]) -> dict[str, Any]:
    """What confirmed.yaml holds."""
    winner = next(t for t in ranked(search.study) if t.number == chosen)
    found = settings_of(winner, search.study.study_name, search.folder, search.space)
    return found | {"mean": mean(runs), "seeds": [seed(t) for t in runs]}


def next_look(search: Search, runs: list[int], force: bool) -> tuple[Path | None, str | None]:
    """The folder of the look at the test set to make or to go on with; or None, and why there is to be no other.

    A look at these runs that is not over goes on; one that is over has said all, and running it again does nothing.
    """
    folder = search.folder / FOLDER
    looks = sorted(folder.glob(f"{LOOK}*"), key=lambda path: int(path.name.removeprefix(LOOK)))
    if looks:
        seen, over = looked_at(search, looks[-1])
        if seen in (None, runs) and not (over and force):
            return looks[-1], None
        if not force:
            return None, (
                f"the test set was looked at before ({looks[-1]}), and the choice or its seeds are others now: another"
                " look would make its figure too high; allowed: hydra.sweeper.test=false, or hydra.sweeper.force=true,"
                " and every later answer says how often it was looked at"
            )
    look = folder / f"{LOOK}{len(looks) + 1}"
    try:
        look.mkdir()
    except FileExistsError:  # another process was faster
        return next_look(search, runs, force=False)
    return look, None


def looked_at(search: Search, look: Path) -> tuple[list[int] | None, bool]:
    """The runs that a look is at, None where it was stopped before it had any; and whether it is over."""
    url, name = search.within(look)
    try:
        with studies.lock(look):  # others may be making its tables
            study = optuna.load_study(study_name=name, storage=studies.open_storage(url))
    except KeyError:
        return None, False
    trials = study.get_trials(deepcopy=False)
    done = sum(t.state == TrialState.COMPLETE for t in trials)
    return study.user_attrs.get("runs"), bool(trials) and done == len(study.user_attrs["runs"])

"""The confirmation of a search: its best trials on fresh seeds, then the test set for the chosen one, once.

    sweeps/NAME/confirmation/study.db   a separate study: a trial for each of the best trials and each fresh seed
    sweeps/NAME/confirmation/test-1/    the first look at the test set: the runs of the chosen trial, evaluated
    sweeps/NAME/confirmed.yaml          the chosen trial, which from_study= reads

Both are run by the workers of a search, as trials that were enqueued, so both survive what a search survives. The
folder of a look marks it: it is created exclusively before any test image is read, and never removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from cifar.files import CONFIRMED_TRIAL
from cifar.sweep import components, outcome
from cifar.sweep import space as spaces
from cifar.sweep import study as studies
from cifar.sweep import trials as trial_kinds
from cifar.sweep.app import Invocation, SearchedApp
from cifar.sweep.content import Known, known_contents
from cifar.sweep.fixed import fixed_config, fixed_settings, option_settings, without
from cifar.sweep.launch import run_trials
from cifar.sweep.names import is_given
from cifar.sweep.outcome import all_complete, by_keys_of_confirmation, mean, ranked
from cifar.sweep.plan import Plan, SweepError, at_start, check_settings, complete, objective
from cifar.sweep.rehearsal import check_subdir, check_values
from cifar.sweep.space import Space
from cifar.sweep.storage import folder_lock, open_storage, open_study, read_trials, resolve_location
from cifar.sweep.study import SharedStudy

FOLDER, LOOK = "confirmation", "test-"
SEEDS = IntDistribution(0, 2**32 - 1)


def confirm(call: Invocation) -> None:
    """Rerun the best trials, choose by the mean over fresh seeds, evaluate the test set for the chosen one.

    Raises SweepError where there is nothing to confirm, where every candidate failed, and where the test set was
    looked at before; Interrupted where it was stopped.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = call.config.hydra.sweeper
    check_settings(call.config.hydra, call.app)
    check_app(call)
    call = at_start(call)
    confirmation = Confirmation(call, open_search(settings, call.arguments, call.app))
    components.check(settings, confirmation.search.space)
    check_subdir(call, call.config, confirmation.search.space)
    if settings.test:
        confirmation.check_test(settings.top)
    runs = confirmation.rerun(settings.top, settings.seeds)
    refused = None
    if settings.test:
        refused = confirmation.look_at_test(runs, settings.force)
    print(outcome.closing_text(call.app, confirmation.search.study, confirmation.search.folder), flush=True)
    if refused:
        raise SweepError(refused)


def check_app(call: Invocation) -> None:
    """Raises SweepError where the app has no seed, or the command line gives a folder."""
    app = call.app
    if app.seed_key is None or (call.config.hydra.sweeper.test and app.test_key is None):
        raise SweepError(
            "hydra/sweeper=confirm: this app says neither what its seed is nor how it evaluates a test set; allowed:"
            " SearchedApp(seed_key=..., test_key=...), or hydra.sweeper.test=false without a test set"
        )
    if is_given(call.config, "hydra.sweep.dir"):
        raise SweepError("hydra.sweep.dir: not of a confirmation, which lies in the folder of its search; leave it out")


@dataclass(frozen=True)
class Search:
    """The search that is confirmed."""

    study: optuna.Study
    url: str
    folder: Path
    space: Space
    seed_key: str

    def within(self, folder: Path) -> tuple[str, str]:
        """The storage and the name of the study of a folder below the search's."""
        name = "-".join([self.study.study_name, *folder.relative_to(self.folder).parts])
        if self.url.startswith("sqlite:///"):
            return f"sqlite:///{folder / 'study.db'}", name
        return self.url, name

    @property
    def seeds(self) -> set[int]:
        """The seeds that its trials trained with."""
        key = self.seed_key
        drawn = {t.params[key] for t in self.study.get_trials(deepcopy=False) if key in t.params}
        fixed = self.study.user_attrs["fixed"]
        for name in key.split("."):
            fixed = fixed.get(name, {}) if isinstance(fixed, Mapping) else {}
        return drawn | {fixed or 0}


def open_search(settings: DictConfig, arguments: list[str], app: SearchedApp) -> Search:
    """The search that settings.study names. Raises SweepError where it cannot be confirmed."""
    url, folder, name = resolve_location(settings.study)
    study = open_study(url, settings.study_name or name) if url else None
    if url is None or study is None or folder is None or "space" not in study.user_attrs:
        raise SweepError(
            f"hydra.sweeper.study={settings.study}: not the folder of a search of this program; allowed: the"
            " sweeps/NAME that a search with hydra/sweeper=optuna wrote"
        )
    if not ranked(study):
        raise SweepError(
            f"hydra.sweeper.study={settings.study}: none of its trials is complete; nothing to confirm yet"
        )
    command_line = spaces.parse(arguments)
    if command_line.distributions:
        raise SweepError(
            f"{', '.join(command_line.distributions)}: nothing is searched in a confirmation; allowed: fixed values"
        )
    space = spaces.from_json(study.user_attrs["space"])
    former = app.former_overrides(study.user_attrs["fixed"])
    space.fixed = spaces.parse([*former, *study.user_attrs["overrides"]]).fixed | command_line.fixed
    assert app.seed_key is not None
    return Search(study, url, folder.resolve(), space, app.seed_key)


@dataclass(frozen=True)
class Confirmation:
    """Runs trials of a search again."""

    call: Invocation
    search: Search

    @property
    def folder(self) -> Path:
        return self.search.folder / FOLDER

    @property
    def seed_key(self) -> str:
        return self.search.seed_key

    def check_test(self, top: int) -> None:
        """Compose and check the runs that may evaluate the test set. Raises UserError where one is not allowed."""
        call, space, key = self.call, self.search.space, str(self.call.app.test_key)
        tested = replace(space, fixed=space.fixed | {key: f"{key}=true"})
        with by_keys_of_confirmation(key):
            for trial in ranked(self.search.study)[:top]:
                check_values(call, call.config, tested, trial.params)

    def rerun(self, top: int, seeds: int) -> list[FrozenTrial]:
        """Run the `top` best trials on fresh seeds, and write confirmed.yaml. Returns the runs of the chosen one."""
        candidates = ranked(self.search.study)[:top]
        study = self.run(self.folder, self.reruns(candidates, fresh_seeds(seeds, self.search.seeds)))
        chosen, runs = self.choose(study)
        outcome.save(self.search.folder / CONFIRMED_TRIAL, self.confirmed(chosen, runs))
        return runs

    def look_at_test(self, runs: list[FrozenTrial], force: bool) -> str | None:
        """Evaluate these runs on the test set. Returns why it was refused, None where it was not."""
        numbers = [t.number for t in runs]
        look, refused = next_look(self.search, numbers, force)
        if look is not None:
            key = str(self.call.app.test_key)
            with by_keys_of_confirmation(key):
                self.run(look, self.evaluations(runs), {key: f"{key}=true"}, {"runs": numbers})
        return refused

    def run(
        self,
        folder: Path,
        trials: list[dict[str, Any]],
        extra: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> SharedStudy:
        """Run those of these trials that the study in `folder` lacks, to the end of all.

        `extra` are overrides by key; `settings` are stored in the study, beside the fixed ones.
        """
        call, search = self.call, self.search
        space = replace(search.space, distributions=search.space.distributions | {self.seed_key: SEEDS})
        cfg = fixed_config(call, call.config, space)
        fixed = self.same_settings(space, cfg)
        url, name = search.within(folder)
        stored = {"fixed": fixed, **(settings or {})}
        direction = search.study.direction.name.lower()
        metric, _ = objective(call.app, call.config.hydra.sweeper, cfg)
        studies.create(url, name, folder, direction, stored, upgrade=call.app.upgrade_settings, metric=metric)
        total = self.enqueue(url, name, folder, trials)
        config = complete(call, name, str(folder), total, url)
        trained = replace(space, fixed=space.fixed | dict(extra or {}))
        plan = Plan(config, trained, fixed, {}, url, folder, self.contents, metric, direction)
        study = run_trials(call, plan, lambda best: None)
        outcome.check_complete(plan, study)
        return study

    def same_settings(self, space: Space, cfg: DictConfig) -> dict[str, Any]:
        """The fixed settings of `cfg`, which must be those of the search. Raises SweepError where they are not."""
        call, upgrade = self.call, self.call.app.upgrade_settings
        fixed = fixed_settings(call, cfg, space)
        before = self.search.study.user_attrs
        stored = studies.upgraded(before["fixed"], fixed, upgrade)
        changes = studies.differences(without(stored, [self.seed_key]), fixed)
        if "options" in before:
            options = option_settings(call, call.config, space, fixed)
            changes += studies.differences(studies.upgraded(before["options"], options, upgrade), options, "options")
        if changes:
            raise SweepError(
                f"not the settings of the search: {'; '.join(changes[:5])}; a confirmation cannot change them"
            )
        return fixed

    @property
    def contents(self) -> list[Known]:
        """What the search was trained on."""
        search = self.search
        return known_contents(read_trials(search.study), self.call.app, search.folder)

    def seed(self, trial: FrozenTrial) -> int:
        return int(trial.params[self.seed_key])

    def pair(self, trial: FrozenTrial) -> tuple[int, int]:
        """The trial of the search that this one runs again, and its seed."""
        return trial.user_attrs["confirms"], self.seed(trial)

    def reruns(self, candidates: list[FrozenTrial], seeds: list[int]) -> list[dict[str, Any]]:
        """What to enqueue: each candidate on a seed before any on the next, so that a part of it compares them all."""
        return [
            self.copy_of(t, t.params | {self.seed_key: seed}, confirms=t.number) for seed in seeds for t in candidates
        ]

    def evaluations(self, runs: list[FrozenTrial]) -> list[dict[str, Any]]:
        """What to enqueue to evaluate the test set with runs of the confirmation, which have ended."""
        return [
            self.copy_of(t, t.params, confirms=t.user_attrs["confirms"], resume=f"../{trial_kinds.folder_of(t)}")
            for t in runs
        ]

    def copy_of(self, trial: FrozenTrial, params: dict[str, Any], **attributes: Any) -> dict[str, Any]:
        """The arguments of studies.enqueue, beside the study, that run a trial again with these parameters."""
        distributions = trial.distributions | {self.seed_key: SEEDS}
        execution = outcome.execution_of(trial, self.call.app, self.search.folder)
        return {"params": params, "distributions": distributions, "execution": execution, **attributes}

    def enqueue(self, url: str, name: str, folder: Path, trials: list[dict[str, Any]]) -> int:
        """Enqueue the trials that the study does not have yet, or that failed.

        Returns how many it has then, of which each counts once, whatever retries or replaces it.
        """
        with folder_lock(folder):
            study = optuna.load_study(study_name=name, storage=open_storage(url))
            latest = self.latest(study)
            for trial in trials:
                before = latest.get((trial["confirms"], trial["params"][self.seed_key]))
                if before is None:
                    studies.enqueue(study, **trial)
                elif trial_kinds.failed(before) and before.user_attrs["outcome"] == "failed":
                    studies.enqueue(study, replaces=before.number, **trial)
            return len(self.latest(study))

    def latest(self, study: optuna.Study) -> dict[tuple[int, int], FrozenTrial]:
        """The latest trial of each pair; one that was withdrawn, as where images were missing, is none."""
        return {self.pair(t): t for t in read_trials(study) if t.user_attrs.get("outcome") != "withdrawn"}

    def choose(self, study: SharedStudy) -> tuple[int, list[FrozenTrial]]:
        """The candidate with the best mean, and its runs. Raises SweepError where all of them failed.

        One that failed on a seed is not chosen, nor one that ran on fewer seeds than others.
        """
        runs = defaultdict(list)
        latest = {self.pair(t): t for t in study.trials() if trial_kinds.counts(t)}
        for trial in latest.values():
            runs[trial.user_attrs["confirms"]].append(trial)
        seeds = max(map(len, runs.values()), default=0)
        sound = {number: of_one for number, of_one in runs.items() if len(of_one) == seeds and all_complete(of_one)}
        if not sound:
            raise SweepError(
                "every candidate failed on a fresh seed, so none is confirmed; see the logs in their folders, or try"
                " more candidates (hydra.sweeper.top)"
            )
        sign = 1 if study.study.direction == StudyDirection.MAXIMIZE else -1
        chosen = max(sound, key=lambda number: sign * mean(sound[number]))
        return chosen, sorted(sound[chosen], key=lambda t: t.number)

    def confirmed(self, chosen: int, runs: list[FrozenTrial]) -> dict[str, Any]:
        """The content of confirmed.yaml."""
        search = self.search
        winner = next(t for t in ranked(search.study) if t.number == chosen)
        settings = outcome.settings_of(winner, self.call.app, search.study.study_name, search.folder, search.space)
        return settings | outcome.confirmed_of(winner, runs, [self.seed(t) for t in runs], search.study)


def fresh_seeds(number: int, used: set[int]) -> list[int]:
    """The first seeds from 1 that were not used."""
    return list(islice((seed for seed in count(1) if seed not in used), number))


def next_look(search: Search, runs: list[int], force: bool) -> tuple[Path | None, str | None]:
    """The folder of the look at the test set to begin or to resume; or None, and why there must not be another.

    A look at these runs that is not over is resumed; of one that is over nothing is left to run.
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
        with folder_lock(look):  # another process may be creating its tables
            study = optuna.load_study(study_name=name, storage=open_storage(url))
    except KeyError:
        return None, False
    trials = study.get_trials(deepcopy=False)
    done = sum(t.state == TrialState.COMPLETE for t in trials)
    return study.user_attrs.get("runs"), bool(trials) and done == len(study.user_attrs["runs"])

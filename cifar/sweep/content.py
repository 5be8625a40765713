"""What the trials of a study are trained on, by content: every trial records it before it trains, and compares.

Attribute of a trial     content: what its run reported (Reporter.identify), nested, in plain types; empty where it was
                         refused. Trials of earlier versions have none: SearchedApp.recorded_content reads theirs.

A trial writes its content first, and reads that of all others afterwards. So of two that begin at the same moment on
different data at least one sees the other, wherever they run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from cifar.errors import UserError
from cifar.sweep.app import SearchedApp
from cifar.sweep.storage import another_study
from cifar.sweep.study import SharedStudy, differences
from cifar.sweep.trials import failed, folder_of

ATTRIBUTE = "content"
RESULTS = (TrialState.COMPLETE, TrialState.PRUNED)
REFUSED = "refused: its images or weights are not those of the study"
"""The reason of a trial that ended because of its content."""


class OtherContent(UserError):
    """A trial that is not trained on what the study is about; it ends the search."""


@dataclass(frozen=True)
class Known:
    """What a trial was trained on; `params` are its parameters, as different ones may choose different content."""

    params: Mapping[str, Any]
    content: Mapping[str, Mapping[str, Any]]


def known_contents(trials: Iterable[FrozenTrial], app: SearchedApp, folder: Path) -> list[Known]:
    """What the trials of a study were trained on, each content once. `folder` is the study's."""
    contents: list[Known] = []
    for trial in _decisive(trials):
        content = trial.user_attrs.get(ATTRIBUTE)
        if content is None:
            content = app.recorded_content(folder / folder_of(trial))
        known = Known({key: value for key, value in trial.params.items() if app.decides_content(key)}, content)
        if content and known not in contents:
            contents.append(known)
    return contents


def _decisive(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that say what a study is about: those with a result; before there are any, all but failed ones.

    So a trial on other data, which has yet to be refused, does not have those of the study refused.
    """
    of_study = [t for t in trials if not failed(t) and t.user_attrs.get("outcome") != "withdrawn"]
    return [t for t in of_study if t.state in RESULTS] or of_study


def unknown_content(trials: list[FrozenTrial], app: SearchedApp, folder: Path) -> bool:
    """Whether a study has results, but nothing says what they were trained on."""
    has_results = any(trial.state in RESULTS for trial in trials)
    return bool(app.content_keys) and has_results and not known_contents(trials, app, folder)


@dataclass(frozen=True)
class ContentCheck:
    """Compares the content of trials. `expected` are contents beside those of the study: of the search it confirms."""

    study: SharedStudy
    app: SearchedApp
    expected: list[Known]
    noted: set[str] = field(default_factory=set)

    def identify(self, trial: Trial, content: Mapping[str, Mapping[str, Any]]) -> None:
        """Record the content of a trial. Raises OtherContent where it is not that of the study, or of its search."""
        trial.set_user_attr(ATTRIBUTE, content)
        params = self.study.frozen(trial).params
        others = [other for other in self.study.trials() if other.number != trial.number]
        for whose, contents in (
            ("the search that is confirmed", self.expected),
            (f"study {self.study.study.study_name}", known_contents(others, self.app, self.study.folder)),
        ):
            for known in contents:
                self._note(whose, self.app.content_notes(known.content, content))
                changes = self._changes(known, params, content)
                if changes:
                    trial.set_user_attr(ATTRIBUTE, {})
                    raise OtherContent(f"{whose} was begun with other data: {'; '.join(changes)}; {self._remedy()}")

    def _note(self, whose: str, notes: list[str]) -> None:
        """Print what the user needs to know, once a worker."""
        for line in (f"warning: {whose}: {note}" for note in notes):
            if line not in self.noted:
                self.noted.add(line)
                print(line, flush=True)

    def _changes(self, known: Known, params: Mapping[str, Any], content: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What differs in the parts that the parameters of both trials do not choose differently."""
        before, now = {}, {}
        for part in content:
            keys = [key for key in {*known.params, *params} if self.app.decides_content(key, part)]
            if part in known.content and all(known.params.get(key) == params.get(key) for key in keys):
                before[part], now[part] = known.content[part], content[part]
        compare = self.app.content_differences or differences
        return compare(before, now)

    def _remedy(self) -> str:
        if self.expected:
            return "a confirmation runs on what its search ran on: give it that"
        return f"use that, or begin another study: {another_study(self.study.study.study_name, self.study.folder)}"

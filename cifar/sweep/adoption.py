"""Trials that were in a study before its first search here: enqueued by the user, or copied from another study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import optuna
from optuna.trial import FrozenTrial

from cifar.sweep.optuna_private import id_of, storage_of

OF_OTHER_NUMBERS = ("retry_of", "replaces", "confirms", "resume")
"""Attributes that name a trial or a run of the study from which a trial was copied."""


def adopt(study: optuna.Study) -> None:
    """Take over a study which holds trials but was not begun by a search of this program, and say so.

    The attributes of its trials are of another study: those of ended trials are not read (storage.read_trials), those
    of waiting ones are taken away.
    """
    trials = study.get_trials(deepcopy=False)
    if "fixed" in study.user_attrs or not trials:
        return
    study.set_user_attr("adopted", [trial.number for trial in trials if trial.state.is_finished()])
    for trial, key in _foreign_attributes(trials):
        storage_of(study).set_trial_user_attr(id_of(trial), key, None)
    states = Counter(trial.state.name.lower() for trial in trials)
    listed = ", ".join(f"{count} {state}" for state, count in states.items())
    print(
        f"study {study.study_name} holds trials that no search of this program ran ({listed}): it takes the settings"
        " of this search; complete and pruned trials count towards hydra.sweeper.n_trials, waiting ones run first",
        flush=True,
    )


def _foreign_attributes(trials: list[FrozenTrial]) -> Iterator[tuple[FrozenTrial, str]]:
    for trial in trials:
        if not trial.state.is_finished():
            yield from ((trial, key) for key in OF_OTHER_NUMBERS if key in trial.user_attrs)

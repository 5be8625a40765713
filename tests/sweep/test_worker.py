from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from optuna.exceptions import StorageInternalError
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.trial import Trial
from sweeps import Toy, ask, make_study, outcomes

from cifar.sweep.components import grid
from cifar.sweep.optuna_private import trial_of_branch
from cifar.sweep.space import Space, parse
from cifar.sweep.study import SharedStudy
from cifar.sweep.worker import is_named


def test_the_sampler_of_a_branch_sees_the_trials_of_its_options_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path, HyperbandPruner())
    for option in ("sgd", "adam", "sgd"):
        study.study.enqueue_trial({"optimizer": option})
        trial = ask(study)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
    of_branch = trial_of_branch(study.study, {"optimizer": "sgd"}, trial)
    options = Counter(t.params["optimizer"] for t in of_branch.study.get_trials())
    assert options == {"sgd": 2}
    assert isinstance(of_branch.study.pruner, NopPruner), "Hyperband would show its sampler those of all branches"


@pytest.mark.parametrize(
    ("value", "text", "named"),
    [
        ("adam", "optimizer=adam: needs more", True),
        ("adam", "no such directory: /home/adam/pets", False),
        ("adam", "no optimizer adamw", False),
        ("cifar", "data/cifar10 is not there", False),
        ("/data/a", "/data/a/cat/1.png: damaged", True),
        ("/data/a", "/data/ab/cat/1.png: damaged", False),
    ],
)
def test_a_value_is_named_by_an_error_as_a_word_or_as_the_begin_of_a_path(value: str, text: str, named: bool) -> None:
    assert is_named(value, text) == named


def test_a_trial_whose_storage_fails_for_a_moment_is_run_again(
    tmp_path: Path, search: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, failures = SharedStudy.complete, iter([StorageInternalError("the server is restarting")])

    def fails_once(self: SharedStudy, trial: Trial, value: float) -> None:
        for failure in failures:
            raise failure
        complete(self, trial, value)

    monkeypatch.setattr(SharedStudy, "complete", fails_once)
    search("hydra.sweeper.n_trials=3", "hydra/sweeper/pruner=none")
    assert sorted(outcomes(tmp_path)) == ["COMPLETE"] * 3 + ["lost"]


def test_a_grid_lists_every_value() -> None:
    space: Space = parse(["a=choice(x,y)", "b=range(1,4)"])
    assert {key: list(values) for key, values in grid(space).items()} == {"a": ["x", "y"], "b": [1, 2, 3]}

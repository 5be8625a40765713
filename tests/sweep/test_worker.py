from __future__ import annotations

from collections import Counter
from pathlib import Path

from sweeps import ask, make_study

from cifar.sweep.components import grid
from cifar.sweep.optuna_private import trial_of_branch
from cifar.sweep.space import Space, parse


def test_the_sampler_of_a_branch_sees_the_trials_of_its_options_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    for option in ("sgd", "adam", "sgd"):
        study.study.enqueue_trial({"optimizer": option})
        trial = ask(study)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
    of_branch = trial_of_branch(study.study, {"optimizer": "sgd"}, trial)
    options = Counter(t.params["optimizer"] for t in of_branch.study.get_trials())
    assert options == {"sgd": 2}


def test_a_grid_lists_every_value() -> None:
    space: Space = parse(["a=choice(x,y)", "b=range(1,4)"])
    assert {key: list(values) for key, values in grid(space).items()} == {"a": ["x", "y"], "b": [1, 2, 3]}

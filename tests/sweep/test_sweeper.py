from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from sweeps import Toy, outcomes, trials

from cifar.errors import UserError
from cifar.files import BEST_TRIAL
from cifar.options.command_line import expand
from cifar.options.option import ConfigError
from cifar.sweep.outcome import save
from cifar.sweep.plan import SweepError
from cifar.sweep.storage import StudyError

ROOT = Path(__file__).parents[2]


def test_a_sweep_ends_with_its_total_its_best_and_a_folder_for_each_trial(tmp_path: Path, search: Toy) -> None:
    output = search("hydra.sweeper.n_trials=8")
    every = trials(tmp_path)
    assert [t.number for t in every] == list(range(8))
    assert {t.state.name for t in every} == {"COMPLETE", "PRUNED"}
    winner = max((t for t in every if t.state.name == "COMPLETE"), key=lambda t: t.value or 0)
    saved = OmegaConf.to_container(OmegaConf.load(tmp_path / "study" / "best.yaml"))
    assert isinstance(saved, dict)
    assert (saved["trial"], saved["value"], saved["params"]) == (winner.number, winner.value, winner.params)
    stock = OmegaConf.to_container(OmegaConf.load(tmp_path / "study" / "optimization_results.yaml"))
    assert isinstance(stock, dict)
    assert (stock["name"], stock["best_params"], stock["best_value"]) == ("optuna", winner.params, winner.value)
    assert saved["command"].startswith("python ") and f"trial {winner.number}, which reported" in output
    assert "run.py from_study=study\n" in output
    for trial in every:
        folder = tmp_path / "study" / str(trial.number)
        overrides = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
        assert all(f"{key}={value}" in overrides for key, value in trial.params.items())
        assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + len(trial.intermediate_values)


def test_a_study_resumes_to_a_larger_total_as_if_it_had_not_stopped(tmp_path: Path, search: Toy) -> None:
    search("hydra.sweeper.n_trials=5")
    whole = [t.params for t in trials(tmp_path)]
    (tmp_path / "study").rename(tmp_path / "whole")
    search("hydra.sweeper.n_trials=3")
    assert "3 of 5 trials are done, resuming" in search("hydra.sweeper.n_trials=5")
    assert [t.params for t in trials(tmp_path)] == whole
    assert "nothing is left" in search("hydra.sweeper.n_trials=5")
    assert len(trials(tmp_path)) == 5


def test_each_trial_searches_the_space_of_the_optimizer_it_drew(tmp_path: Path, search: Toy) -> None:
    two = ("hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=2")
    output = search("optimizer=choice(sgd,adam)", "search=architecture", *two)
    assert "searched, with optimizer=sgd: optimizer.lr 0.001 to 0.3 (log); optimizer.momentum 0.5 to 0.99; " in output
    every = trials(tmp_path)
    assert {t.params["optimizer"] for t in every} == {"sgd", "adam"}
    for trial in every:
        assert ("optimizer.momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert trial.params["model.width"] in (16, 32, 64)
        assert trial.params["model"] in ("resnet14", "resnet26", "resnet50")
    assert {t.user_attrs["worker"]["index"] for t in every} == {0, 1}


def test_an_override_is_fixed_and_not_searched(tmp_path: Path, search: Toy) -> None:
    search("hydra.sweeper.n_trials=2", "optimizer.momentum=0.8", "optimizer.lr=choice(0.1,0.2)")
    for trial in trials(tmp_path):
        assert set(trial.params) == {"optimizer.lr", "optimizer.weight_decay"}
        config = OmegaConf.load(tmp_path / "study" / str(trial.number) / ".hydra" / "config.yaml")
        assert config.optimizer.momentum == 0.8


def test_a_grid_is_searched_once(tmp_path: Path, search: Toy) -> None:
    grid = ["hydra/sweeper/sampler=grid", "optimizer.lr=choice(0.1,0.2)", "optimizer.momentum=choice(0.8,0.9)"]
    search(*grid, "optimizer.weight_decay=0", "hydra/sweeper/pruner=none")
    points = [(t.params["optimizer.lr"], t.params["optimizer.momentum"]) for t in trials(tmp_path)]
    assert sorted(points) == [(0.1, 0.8), (0.1, 0.9), (0.2, 0.8), (0.2, 0.9)]


def test_failures_are_kept_with_their_reason_and_the_sweep_continues(tmp_path: Path, search: Toy) -> None:
    search("hydra.sweeper.n_trials=8", "hydra.sweeper.max_failure_rate=1", fault="raise_high")
    for trial in trials(tmp_path):
        too_high = trial.params["optimizer.lr"] > 0.1
        assert trial.user_attrs.get("outcome") == ("failed" if too_high else None)
        assert ("is too high" in trial.user_attrs.get("reason", "")) == too_high
    assert "failed" in outcomes(tmp_path)


@pytest.mark.parametrize("together", [1, 3])
def test_a_failure_is_in_the_log_of_its_trial_and_in_no_other(together: int, tmp_path: Path, search: Toy) -> None:
    turns = ("hydra/sweeper/sampler=random", f"hydra.sweeper.trials_per_worker={together}")
    search("hydra.sweeper.n_trials=8", "hydra.sweeper.max_failure_rate=1", *turns, fault="raise_high")
    for trial in trials(tmp_path):
        log = (tmp_path / "study" / str(trial.number) / "toy_app.log").read_text()
        assert log.count("Traceback") == log.count("is too high\n") == ("outcome" in trial.user_attrs)
        assert log.count("pruned after epoch") == (trial.state.name == "PRUNED")
    assert {*outcomes(tmp_path)} == {"COMPLETE", "PRUNED", "failed"}


@pytest.mark.parametrize("fault, outcome", [("raise", "failed"), ("diverge", "diverged")])
def test_when_too_many_fail_the_error_names_the_first_reason(
    tmp_path: Path, search: Toy, fault: str, outcome: str
) -> None:
    with pytest.raises(SweepError, match="4 of 6 trials failed") as raised:
        search("hydra.sweeper.n_trials=6", fault=fault)
    assert trials(tmp_path)[0].user_attrs["reason"] in str(raised.value)
    assert outcomes(tmp_path) == [outcome] * 4


@pytest.mark.parametrize(
    "override, message",
    [
        ("optimizer.lr=interval(0,1)", "optimizer.lr=0.0: not allowed; allowed: a number in (0, inf)"),
        ("optimizer.momentum=choice(0.9,1.5)", "optimizer.momentum=1.5"),
        ("optimizer=choice(sgd,nope)", "optimizer=nope: no such option; allowed: adagrad, adam,"),
        ("epochs=0", "epochs=0"),
        ("test=true", "hydra/sweeper=confirm"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true: not allowed"),
        ("hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: not allowed; allowed: from 1"),
        ("hydra/sweeper/sampler=grid", "no grid over an interval"),
    ],
)
def test_a_bad_search_is_refused_before_a_study_is_made(
    tmp_path: Path, search: Toy, override: str, message: str
) -> None:
    with pytest.raises(Exception, match=re.escape(message)) as raised:
        search(override)
    assert isinstance(raised.value, UserError)
    assert not (tmp_path / "study").exists()


def test_other_settings_need_another_study(tmp_path: Path, search: Toy) -> None:
    search("hydra.sweeper.n_trials=1", "hydra.sweeper.study_name=s")
    with pytest.raises(StudyError, match=r"fixed\.data\.source: was cifar10, now digits.*study_name=s-2"):
        search("hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=s", "data=digits")
    assert len(trials(tmp_path)) == 1


def test_settings_of_the_execution_may_change(tmp_path: Path, search: Toy) -> None:
    search("hydra.sweeper.n_trials=1")
    search("hydra.sweeper.n_trials=2", "tracker=tensorboard", "threads=1", f"cache.dir={tmp_path}")
    assert len(trials(tmp_path)) == 2


def test_the_plain_grid_of_hydra_is_unchanged(tmp_path: Path, sweep: Toy) -> None:
    sweep("optimizer=sgd,adam", "seed=0,1", "hydra.sweep.dir=grid")
    folders = sorted(path.name for path in (tmp_path / "grid").iterdir() if path.is_dir())
    assert folders == ["0", "1", "2", "3"]
    assert json.loads((tmp_path / "grid" / "3" / "result.json").read_text())["status"] == "finished"


def test_the_parent_of_a_sweep_imports_no_torch() -> None:
    code = "import sys, run, cifar.sweep.launch, cifar.sweep.confirm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def study_with_best(folder: Path) -> None:
    folder.mkdir()
    overrides = ["data=digits", "optimizer=sgd", "optimizer.lr=0.5", "optimizer.momentum=0.8"]
    save(folder / BEST_TRIAL, {"overrides": overrides})


def expanded(lines: list[str], study: Path) -> list[str]:
    """The overrides that run with from_study=."""
    overrides = OverridesParser.create().parse_overrides(lines)
    return [str(override.input_line) for override in expand(overrides, None, str(study))]


def test_from_study_puts_the_best_settings_before_the_command_line(tmp_path: Path) -> None:
    study_with_best(tmp_path / "s")
    line = [f"from_study={tmp_path / 's'}", "optimizer.lr=0.1", "seed=3"]
    assert expanded(line, tmp_path / "s") == ["data=digits", "optimizer=sgd", "optimizer.momentum=0.8", *line]
    other = [f"from_study={tmp_path / 's'}", "optimizer=adam"]
    assert expanded(other, tmp_path / "s") == ["data=digits", *other]


def test_from_study_of_no_study_names_those_there_are(tmp_path: Path) -> None:
    study_with_best(tmp_path / "s")
    with pytest.raises(ConfigError, match=rf"allowed: {tmp_path / 's'}"):
        expanded([], tmp_path / "other")

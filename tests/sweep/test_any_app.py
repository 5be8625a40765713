"""The sweeper in an app that knows nothing of this program: examples/any_hydra_app."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "any_hydra_app"
POINT = ("x=interval(-5,5)", "y=interval(-5,5)")
QUICK = ("hydra.sweeper.sampler.seed=0", "hydra.sweeper.heartbeat=0.2")


def start(app: str, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLE / app), "-m", "hydra/sweeper=optuna", *QUICK, *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def run(app: str, folder: Path, *overrides: str) -> str:
    process = start(app, folder, *overrides)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def study(folder: Path, name: str = "app") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/sweeps/{name}/study.db")


def outcomes(trials: list[FrozenTrial]) -> list[str]:
    return [trial.user_attrs.get("outcome", trial.state.name) for trial in trials]


def test_an_app_that_only_registers_the_sweeper_is_minimized(tmp_path: Path) -> None:
    output = run("app.py", tmp_path, *POINT, "hydra.sweeper.n_trials=25")
    search = study(tmp_path)
    assert search.direction == StudyDirection.MINIMIZE
    assert outcomes(search.trials) == ["COMPLETE"] * 25
    assert search.best_value < 2 and f"best: trial {search.best_trial.number}, value" in output
    best = OmegaConf.load(tmp_path / "sweeps" / "app" / "best.yaml")
    assert best.params == search.best_params
    assert best.command.endswith(f"app.py x={best.params.x} y={best.params.y}")
    assert "25 trials are done" in run("app.py", tmp_path, *POINT, "hydra.sweeper.n_trials=25")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_of_any_app_resumes_after_a_kill(tmp_path: Path, jobs: int) -> None:
    total = (f"hydra.sweeper.n_jobs={jobs}", "hydra.sweeper.n_trials=6")
    killed = start("app.py", tmp_path, *POINT, *total, "seconds=1")
    while killed.poll() is None and not complete(tmp_path):
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    time.sleep(2.5)  # workers that lost their parent end after their trial
    assert 0 < complete(tmp_path) < 6
    output = run("app.py", tmp_path, *POINT, *total, "seconds=1")
    assert "of 6 trials are done, resuming" in output
    every = study(tmp_path).trials
    assert complete(tmp_path) == 6
    retried = [trial.number for trial in every if trial.user_attrs.get("outcome") in ("lost", "interrupted")]
    assert retried == [trial.user_attrs["retry_of"] for trial in every if "retry_of" in trial.user_attrs]


def complete(folder: Path) -> int:
    """How many trials of a search are complete; its study is there once the first trial has begun."""
    begun = (folder / "sweeps" / "app" / "0").exists()
    return outcomes(study(folder).trials).count("COMPLETE") if begun else 0


def test_an_app_that_reports_its_steps_is_pruned(tmp_path: Path) -> None:
    rate = "rate=tag(log,interval(1e-3,0.5))"
    run("app_with_reporter.py", tmp_path, rate, "hydra.sweeper.n_trials=20", "hydra/sweeper/sampler=random")
    search = study(tmp_path, "app_with_reporter")
    assert {*outcomes(search.trials)} == {"COMPLETE", "PRUNED"}
    for trial in search.trials:
        steps = len(trial.intermediate_values)
        assert (steps == 20) == (trial.state.name == "COMPLETE") and steps > 0
    pruned = [trial.params["rate"] for trial in search.trials if trial.state.name == "PRUNED"]
    assert search.best_params["rate"] > max(pruned)


def test_what_an_app_says_of_itself_is_used_by_all_of_its_workers(tmp_path: Path) -> None:
    output = run(
        "app_with_reporter.py",
        tmp_path,
        "rate=choice(0.01,0.1,0.3)",
        *("hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "hydra/sweeper/pruner=hyperband"),
    )
    assert "failed" not in outcomes(study(tmp_path, "app_with_reporter").trials), output
    settings = (tmp_path / "sweeps" / "app_with_reporter" / "0" / ".hydra" / "hydra.yaml").read_text()
    assert "max_resource: ${steps}" in settings

"""Odd names of studies, runs and storages: every command that is printed works when pasted where it was printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml
from sweeps import Toy

from cifar.commands import override
from cifar.results import read_result
from cifar.sweep.storage import file_of, open_study
from cifar.sweep.study import SharedStudy, create

RunPy = Callable[..., subprocess.CompletedProcess[str]]
ODD = '-x it\'s [1] = "x" 100%20?timeout=3&b=c#$HOME é {a}, (b)'
"""Each character alone is in test_commands.py."""


def pasted(line: str, cwd: Path) -> str:
    """The output of a command that was printed, run by a shell."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(["bash", "-c", line], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


def after(mark: str, text: str) -> str:
    """The command after a mark in what was printed."""
    (command,) = re.findall(rf"{mark} *(.*run\.py.*)", text)
    return str(command)


@pytest.mark.parametrize("name", [ODD, "null"])
def test_the_commands_of_a_search_work_when_pasted(name: str, run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    """Five trials of which one learns nothing have scores that differ, so that a confirmation is advised."""
    settings = [*tiny, "epochs=1", "optimizer.momentum=0.9", "optimizer.weight_decay=0"]
    grid = ("hydra/sweeper/sampler=grid", "optimizer.lr=choice(1e-9,0.01,0.03,0.1,0.3)")
    search = ["-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", *settings, *grid]
    done = run_py(*search, override("hydra.sweeper.study_name", name), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "sweeps" / name
    assert (folder / "study.db").exists() and [path.name for path in tmp_path.iterdir()] == ["sweeps"]
    pasted(f"{after('train it:', done.stdout)} hydra.run.dir=trained", tmp_path)
    assert read_result(tmp_path / "trained")["status"] == "finished"
    counts = ("hydra.sweeper.top=1", "hydra.sweeper.seeds=1")
    pasted(f"{after('confirm it:', done.stdout)} {shlex.join([*settings, *counts])}", tmp_path)
    assert (folder / "confirmed.yaml").exists()
    best = yaml.safe_load((folder / "best.yaml").read_text())
    pasted(f"{best['command']} hydra.run.dir=again", tmp_path)
    assert read_result(tmp_path / "again")["status"] == "finished"


def test_the_command_that_resumes_a_run_works_when_pasted(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    arguments = [*tiny, "epochs=1", override("hydra.run.dir", f"runs/{ODD}")]
    assert run_py(*arguments, cwd=tmp_path).returncode == 0
    refused = run_py(*arguments, cwd=tmp_path).stderr
    (command,) = re.findall(r"resume it \((.*)\) or choose", refused)
    pasted(f"{command} epochs=2", tmp_path)
    assert read_result(tmp_path / "runs" / ODD)["epochs_done"] == 2


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "100%20.db", "a?timeout=x.db", "ü#[1]='x'.db", "{a}.db"])
@pytest.mark.parametrize("scheme", ["sqlite:///", "journal:///"])
def test_a_storage_may_have_any_name(name: str, scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}{tmp_path / name}"
    assert file_of(url) == tmp_path / name
    for trials in (1, 2):  # the second start resumes
        create(url, "s", tmp_path / "study", "maximize", {})
        study = SharedStudy(url, "s", tmp_path / "study", trials, optuna.pruners.NopPruner(), 3)
        trial = study.ask(lambda number: optuna.samplers.RandomSampler(seed=number), 0)
        assert trial is not None and trial.number == trials - 1
        study.complete(trial, 0.5)
    assert len(open_study(url, None).trials) == 2 and file_of(url) == tmp_path / name
    names = {path.name for path in tmp_path.iterdir()} - {"study"}
    assert names in ({name}, {name, f"{name}.lock"})


@pytest.mark.parametrize("scheme", ["sqlite:///", "journal:///"])
def test_a_search_keeps_its_study_in_a_storage_of_an_odd_name(scheme: str, search: Toy, tmp_path: Path) -> None:
    storage = override("hydra.sweeper.storage", f"{scheme}{tmp_path / ODD}")
    search(storage, "hydra.sweeper.n_trials=1")
    assert "1 of 2 trials are done, resuming" in search(storage, "hydra.sweeper.n_trials=2")
    names = {path.name for path in tmp_path.iterdir()} - {"study"}
    assert names in ({ODD}, {ODD, f"{ODD}.lock"})

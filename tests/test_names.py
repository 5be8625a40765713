"""Odd names of studies, runs and storages: every command that is printed works when pasted where it was printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cifar.commands import override
from cifar.results import read_result

RunPy = Callable[..., subprocess.CompletedProcess[str]]
NAMES = ["a b", 'it\'s [1] = "x" %20?#$HOME é', "-x?timeout=3&b=c", "{a}, (b) 100%", "null"]


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


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_search_work_when_pasted(name: str, run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    search = ["-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", *tiny, "epochs=1", "hydra.sweeper.n_trials=6"]
    done = run_py(*search, override("hydra.sweeper.study_name", name), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "sweeps" / name
    assert (folder / "study.db").exists() and [path.name for path in tmp_path.iterdir()] == ["sweeps"]
    pasted(f"{after('train it:', done.stdout)} hydra.run.dir=trained", tmp_path)
    assert read_result(tmp_path / "trained")["status"] == "finished"
    confirm = after("confirm it:", done.stdout) if "confirm it:" in done.stdout else None
    if confirm is not None:  # not where all trials have the same score
        settings = shlex.join([*tiny, "epochs=1", "hydra.sweeper.top=1", "hydra.sweeper.seeds=1"])
        pasted(f"{confirm} {settings}", tmp_path)
        assert (folder / "confirmed.yaml").exists()
    best = yaml.safe_load((folder / "best.yaml").read_text())
    pasted(f"{best['command']} hydra.run.dir=again", tmp_path)
    assert read_result(tmp_path / "again")["status"] == "finished"


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_resumes_a_run_works_when_pasted(
    name: str, run_py: RunPy, tiny: list[str], tmp_path: Path
) -> None:
    arguments = [*tiny, "epochs=1", override("hydra.run.dir", f"runs/{name}")]
    assert run_py(*arguments, cwd=tmp_path).returncode == 0
    refused = run_py(*arguments, cwd=tmp_path).stderr
    (command,) = re.findall(r"resume it \((.*)\) or choose", refused)
    pasted(f"{command} epochs=2", tmp_path)
    assert read_result(tmp_path / "runs" / name)["epochs_done"] == 2


@pytest.mark.parametrize("name", ["a b.db", "a?b.db", "100%20.db", "a?timeout=x.db", "ü#[1]='x'.db", "{a}.db"])
@pytest.mark.parametrize("scheme", ["sqlite:///", "journal:///"])
def test_a_storage_may_have_any_name(name: str, scheme: str, run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    storage = override("hydra.sweeper.storage", f"{scheme}{tmp_path / name}")
    search = ["-m", "hydra/sweeper=optuna", *tiny, "epochs=1", "hydra.sweep.dir=study", storage]
    for trials in (1, 2):  # the second start resumes
        done = run_py(*search, f"hydra.sweeper.n_trials={trials}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "1 of 2 trials are done, resuming" in done.stdout
    names = {path.name for path in tmp_path.iterdir()} - {"study"}
    assert names in ({name}, {name, f"{name}.lock"})

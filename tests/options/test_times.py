"""The setting time: what it may be, and which of time and epochs a run has."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cifar.compose import composed, composed_of_keys
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.options.times import in_words, seconds_of
from cifar.results import read_result
from cifar.sweep.space import SpaceError

RunPy = Callable[..., "subprocess.CompletedProcess[str]"]
Settings = Callable[..., Config]


@pytest.mark.parametrize(
    ("text", "seconds", "words"),
    [
        ("90s", 90, "90 seconds"),
        ("1m", 60, "1 minute"),
        ("10m", 600, "10 minutes"),
        ("1.5h", 5400, "1.5 hours"),
        ("0.5m", 30, "0.5 minutes"),
    ],
)
def test_a_time_has_a_unit(text: str, seconds: float, words: str) -> None:
    assert (seconds_of(text), in_words(text)) == (seconds, words)


@pytest.mark.parametrize(
    "text", ["600", "10", "0s", "0.0m", "-5m", "10M", "10min", "m", "1:30", "5 m", "", "8761h", "9" * 400 + "h"]
)
def test_another_text_is_an_error_that_names_what_is_allowed(text: str, compose: Callable[..., Any]) -> None:
    allowed = r"not allowed; allowed: seconds, minutes or hours above 0 \(90s, 10m, 1\.5h\), a year at most \(8760h\)"
    with pytest.raises(ConfigError, match=f"time=.*{allowed}"):
        seconds_of(text)
    with pytest.raises(ConfigError, match=f"time=.*{allowed} or null"):
        check(compose("data=digits", f"time='{text}'"))


def test_a_number_without_a_unit_is_an_error(compose: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"time=600: not allowed; allowed: seconds, minutes or hours"):
        check(compose("data=digits", "time=600"))


@pytest.mark.parametrize("lines", [("epochs=5", "time=10m"), ("time=1h", "epochs=1,2"), ("++time=9s", "++epochs=5")])
def test_epochs_and_time_together_are_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"a time sets the number of epochs; allowed: one of them, epochs=N or"):
        composed_of_keys(["data=digits", *lines])
    if not any("," in line for line in lines):
        with pytest.raises(ConfigError, match="allowed: one of them"):
            composed("data=digits", *lines)


def test_a_time_that_is_null_does_not_count() -> None:
    config = composed("data=digits", "epochs=5", "time=null")
    assert (config.epochs, config.time) == (5, None)


def test_a_warm_up_is_compared_with_the_plan_alone(settings: Settings) -> None:
    assert settings("time=10m", "scheduler.warmup_epochs=99").time == "10m"
    with pytest.raises(ConfigError, match=r"scheduler\.warmup_epochs=99"):
        settings("scheduler.warmup_epochs=99")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of config files with an experiment that has a time, and one that has epochs."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    for name, line in (("quick", "time: 2s"), ("short", "epochs: 3")):
        (tmp_path / "mine" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{line}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("experiment=quick",), ("2s", 10)),
        (("experiment=quick", "epochs=5"), (None, 5)),
        (("epochs=5", "experiment=quick"), (None, 5)),
        (("experiment=quick", "time=9m"), ("9m", 10)),
        (("experiment=short", "time=9m"), ("9m", 3)),
        (("experiment=quick", "epochs=5", "time=null"), (None, 5)),
    ],
)
def test_what_the_command_line_says_wins_over_an_experiment(
    lines: tuple[str, ...], expected: tuple[str | None, int], mine: Path, run_py: RunPy
) -> None:
    done = run_py("--config-dir", "mine", "data=digits", *lines, "--cfg", "job", cwd=mine)
    shown = yaml.safe_load(done.stdout)
    assert (shown["time"], shown["epochs"]) == expected, done.stderr


def test_a_start_with_both_is_refused_before_anything_is_made(tmp_path: Path, run_py: RunPy) -> None:
    done = run_py("data=digits", "time=10m", "epochs=3", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: epochs=3 time=10m: a time sets")
    assert list(tmp_path.iterdir()) == []


TINY = ("data=digits", "data.limit=120", "model.depths=[1]", "model.width=2", "device=cpu", "threads=1")


def test_a_run_with_a_time_is_resumed_by_epochs_and_one_with_epochs_not_by_a_time(
    tmp_path: Path, run_py: RunPy
) -> None:
    def start(*lines: str) -> str:
        done = run_py(*lines, cwd=tmp_path)
        return done.stderr if done.returncode else ""

    assert start(*TINY, "scheduler=cosine", "time=2s", "hydra.run.dir=timed") == ""
    before = read_result(tmp_path / "timed")
    assert before["plan"]["time"] == "2s" and before["epochs_done"] == before["epochs"]
    assert "time=3s: was 2s, and timed is trained to its end; allowed: epochs=N" in start("resume=timed", "time=3s")
    shutil.copytree(tmp_path / "timed", tmp_path / "killed")
    (tmp_path / "killed" / "result.json").write_text(json.dumps({**before, "status": "running"}))
    assert "time=0.1s: was 2s, and killed has used" in start("resume=killed", "time=0.1s")
    assert "optimizer.lr=0.3: was 0.01, and no epoch is left" in start("resume=timed", "optimizer.lr=0.3")
    more = before["epochs"] + 2
    assert start("resume=timed", f"epochs={more}") == ""
    after = read_result(tmp_path / "timed")
    assert (after["epochs"], after["epochs_done"], "plan" in after) == (more, more, False)
    assert after["last"]["lr"] < before["best"]["lr"] or after["last"]["lr"] < 0.001
    assert start(*TINY, "epochs=1", "hydra.run.dir=plain") == ""
    assert "time=3s: plain was started with epochs and keeps these" in start("resume=plain", "time=3s")


@pytest.mark.parametrize(
    ("before", "lines", "expected"),
    [
        ("epochs=30", ("experiment=quick",), ("2s", 10)),
        ("time=9m", ("experiment=short",), (None, 3)),
        ("time=9m", (), ("9m", 10)),
    ],
)
def test_the_experiment_of_the_command_line_wins_over_what_a_run_had(
    before: str, lines: tuple[str, ...], expected: tuple[str | None, int], mine: Path, run_py: RunPy
) -> None:
    (mine / "run" / ".hydra").mkdir(parents=True)
    (mine / "run" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["data=digits", before]))
    done = run_py("--config-dir", "mine", "from_run=run", *lines, "--cfg", "job", cwd=mine)
    shown = yaml.safe_load(done.stdout)
    assert (shown["time"], shown["epochs"]) == expected, done.stderr


def test_epochs_win_over_the_experiments_of_a_grid(mine: Path, run_py: RunPy) -> None:
    grid = ("-m", "experiment=quick,short", "hydra.sweep.dir=grid")
    assert run_py("--config-dir", "mine", *TINY, "epochs=1", *grid, cwd=mine).returncode == 0
    for job in "01":
        result = read_result(mine / "grid" / job)
        assert (result["epochs"], "plan" in result) == (1, False)


def test_trials_with_a_time_are_repeated_by_their_epochs(tmp_path: Path, run_py: RunPy) -> None:
    """In best.yaml, by a confirmation and by from_study; another time is another study."""
    search = ("-m", "hydra/sweeper=optuna", *TINY, "hydra.sweep.dir=search", "hydra.sweeper.n_trials=2", "seed=3")

    def start(*lines: str, code: int = 0) -> str:
        done = run_py(*lines, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    text = start(*search, "time=2s", "hydra/sweeper/pruner=hyperband")
    best = yaml.safe_load((tmp_path / "search" / "best.yaml").read_text())
    trained = read_result(tmp_path / "search" / str(best["trial"]))["plan"]["whole_epochs"]
    assert best["execution"] == {"threads": 1, "time": None, "epochs": trained}
    assert {"time=null", f"epochs={trained}"} <= set(best["overrides"]) and "time=2s" not in best["overrides"]
    assert f"with epochs={trained}, which the time of the trial allowed" in text
    assert "fixed.time: was 2s, now 3s" in start(*search, "time=3s", code=1)
    confirm = ("-m", "hydra/sweeper=confirm", "hydra.sweeper.study=search", "hydra.sweeper.top=1")
    start(*confirm, "hydra.sweeper.seeds=1")
    confirmed = read_result(tmp_path / "search" / "confirmation" / "0")
    assert (confirmed["epochs"], "plan" in confirmed) == (trained, False)
    start("from_study=search", "hydra.run.dir=again")
    repeated = read_result(tmp_path / "again")
    assert (repeated["epochs"], "plan" in repeated) == (trained, False)
    start("from_study=search", "time=2s", "hydra.run.dir=timed")
    assert read_result(tmp_path / "timed")["plan"]["time"] == "2s"


def test_a_trial_whose_time_is_too_short_for_its_warm_up_does_not_end_the_search(tmp_path: Path, run_py: RunPy) -> None:
    long = ("time=1s", "scheduler=cosine", "scheduler.warmup_epochs=900")
    search = ("-m", "hydra/sweeper=optuna", *TINY, *long, "hydra.sweep.dir=search", "hydra.sweeper.n_trials=2")
    done = run_py(*search, cwd=tmp_path)
    assert "trial 1 failed" in done.stdout and "the run has no more epochs (time=1s" in done.stdout + done.stderr


def test_trials_that_share_a_device_have_no_time(search: Any) -> None:
    with pytest.raises(SpaceError, match=r"time=5s: not with hydra\.sweeper\.trials_per_worker=2"):
        search("time=5s", "hydra.sweeper.trials_per_worker=2")


def test_epochs_are_not_searched_where_there_is_a_time(sweep: Any, tmp_path: Path) -> None:
    searched = "hydra.sweeper.params={epochs:'range(1,9)',optimizer.lr:'interval(0.01,0.1)'}"
    with pytest.raises(SpaceError, match="epochs: cannot be searched where time=5s sets it; allowed: time=null"):
        sweep("hydra/sweeper=optuna", "data=digits", "device=cpu", f"+{searched}", "time=5s")


def test_what_a_run_decides_is_not_one_of_several_choices(search: Any) -> None:
    for searched in ("model.width=choice(auto,48)", "model.width=48,auto"):
        with pytest.raises(SpaceError, match=r"model\.width: searched with auto, .* allowed: the other values"):
            search("model=resnet9", searched)


def test_a_time_is_not_searched(search: Any) -> None:
    with pytest.raises(SpaceError, match="time: cannot be searched; the same for all trials"):
        search("time=5s,6s")


def test_hyperband_learns_the_last_epoch_where_a_time_sets_it(compose: Callable[..., Any]) -> None:
    sweeper = ("hydra/sweeper=optuna", "hydra/sweeper/pruner=hyperband")
    for line, expected in (("time=5s", "auto"), ("epochs=7", 7)):
        assert compose(*sweeper, line, hydra=True).hydra.sweeper.pruner.max_resource == expected

"""Faults of real sweeps: signals and kills, of workers and parents, at chosen and at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from sweeps import Sweep, fingerprint, outcomes, trials

SLOW = {"TOY_SECONDS": "0.1"}
TWO = ("hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2", "hydra/sweeper/pruner=none")
ONE = ("hydra.sweeper.n_trials=3", "hydra/sweeper/pruner=none")
TURNS = ("hydra.sweeper.n_trials=6", "hydra.sweeper.trials_per_worker=3", "hydra/sweeper/pruner=none")


def wait_until(condition: Callable[[], bool], running: Sweep) -> None:
    while running.process.poll() is None and not condition():
        time.sleep(0.05)
    assert condition(), running.log.read_text()


def epochs(folder: Path, trial: int) -> int:
    path = folder / "study" / str(trial) / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def finished(folder: Path) -> dict[int, str]:
    """What must never change: the files of every trial that the study says are complete."""
    if not (folder / "study" / "study.db").exists():
        return {}
    complete = [t.number for t in trials(folder) if t.state.name == "COMPLETE"]
    return {number: fingerprint(folder / "study" / str(number)) for number in complete}


def check_total(folder: Path, total: int) -> None:
    """Exactly `total` complete trials, and every other one retried exactly once."""
    every = trials(folder)
    complete = [t for t in every if t.state.name == "COMPLETE"]
    assert len(complete) == total
    assert all(len(t.intermediate_values) == 4 for t in complete)
    unfinished = sorted(t.number for t in every if t.user_attrs.get("outcome") in ("lost", "interrupted"))
    assert unfinished == sorted(t.user_attrs["retry_of"] for t in every if "retry_of" in t.user_attrs)
    assert len(every) == total + len(unfinished)


@pytest.mark.parametrize(
    "overrides, signum",
    [(ONE, signal.SIGINT), (TWO, signal.SIGTERM), (TURNS, signal.SIGINT), (TURNS, signal.SIGTERM)],
    ids=["basic", "joblib", "in turns, Ctrl-C", "in turns, SIGTERM"],
)
def test_a_sweep_asked_to_stop_releases_its_trials_and_resumes(
    tmp_path: Path, overrides: tuple[str, ...], signum: signal.Signals
) -> None:
    running = Sweep(tmp_path, *overrides, **SLOW)
    wait_until(lambda: epochs(tmp_path, 0) > 0, running)
    running.process.send_signal(signum)
    code, output = running.wait()
    assert code != 0
    assert "the same command resumes the search" in output
    assert "RUNNING" not in outcomes(tmp_path)
    assert "WAITING" in outcomes(tmp_path)
    assert not list((tmp_path / "study").glob(".stop-*"))
    before = finished(tmp_path)
    code, output = Sweep(tmp_path, *overrides).wait()
    assert code == 0, output
    check_total(tmp_path, int(overrides[0].partition("=")[2]))
    assert before.items() <= finished(tmp_path).items()


def test_a_second_ctrl_c_stops_at_once_and_the_trial_is_retried(tmp_path: Path) -> None:
    running = Sweep(tmp_path, *ONE, TOY_SECONDS="30")
    wait_until((tmp_path / "study" / "0" / "metrics.csv").exists, running)
    begun = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    running.process.send_signal(signal.SIGINT)
    assert running.wait()[0] != 0
    assert time.monotonic() - begun < 20  # an epoch takes 30 s
    assert Sweep(tmp_path, *ONE).wait()[0] == 0
    assert outcomes(tmp_path)[0] == "interrupted"
    check_total(tmp_path, 3)


def test_a_second_ctrl_c_stops_all_trials_of_a_worker_at_once(tmp_path: Path) -> None:
    running = Sweep(tmp_path, *TURNS, TOY_SECONDS="1.5")
    wait_until(lambda: all(epochs(tmp_path, number) > 0 for number in range(3)), running)
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGINT)
    assert running.wait()[0] != 0
    assert "RUNNING" not in outcomes(tmp_path)
    assert Sweep(tmp_path, *TURNS).wait()[0] == 0
    assert outcomes(tmp_path)[:3] == ["interrupted"] * 3
    check_total(tmp_path, 6)


def test_all_trials_of_a_killed_worker_resume_from_their_checkpoints(tmp_path: Path) -> None:
    running = Sweep(tmp_path, *TURNS, **SLOW)
    wait_until(lambda: all(epochs(tmp_path, number) > 0 for number in range(3)), running)
    running.process.kill()
    running.wait()
    lost = [t.number for t in trials(tmp_path) if t.state.name == "RUNNING"]
    done = {number: epochs(tmp_path, number) for number in lost}
    assert lost == [0, 1, 2]
    code, output = Sweep(tmp_path, *TURNS).wait()
    assert code == 0, output
    check_total(tmp_path, 6)
    for trial in trials(tmp_path):
        if trial.number not in lost:
            text = (tmp_path / "study" / str(trial.number) / "result.json").read_text()
            before = trial.user_attrs.get("retry_of")
            assert f'"resumed_after": {done.get(before, 0)}' in text
    assert {t.user_attrs.get("retry_of") for t in trials(tmp_path)} == {None, *lost}


def test_a_killed_worker_is_replaced_and_its_trial_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    code, output = Sweep(tmp_path, *TWO, TOY_FAULT="kill", **SLOW).wait()
    assert code == 0, output
    assert "a worker was killed" in output
    check_total(tmp_path, 6)
    params = {t.number: t.params for t in trials(tmp_path)}  # of one killed while it drew them, some
    retried = {t.number: t.user_attrs["retry_of"] for t in trials(tmp_path) if "retry_of" in t.user_attrs}
    assert retried and all(params[before].items() <= params[retry].items() for retry, before in retried.items())
    results = [(tmp_path / "study" / str(retry) / "result.json").read_text() for retry in retried]
    assert any('"resumed_after": 1' in text for text in results), "the one that was killed in its second epoch"


def test_a_trial_whose_worker_died_before_signing_it_is_retried(tmp_path: Path) -> None:
    assert Sweep(tmp_path, *ONE, "hydra.sweeper.n_trials=1").wait()[0] == 0
    storage = f"sqlite:///{tmp_path}/study/study.db"
    optuna.load_study(study_name=None, storage=storage).ask()
    code, output = Sweep(tmp_path, *ONE, "hydra.sweeper.n_trials=2").wait()
    assert code == 0, output
    assert outcomes(tmp_path) == ["COMPLETE", "lost", "COMPLETE"]


def test_workers_of_a_killed_parent_release_their_trials(tmp_path: Path) -> None:
    running = Sweep(tmp_path, *TWO, TOY_SECONDS="0.5")
    wait_until(lambda: epochs(tmp_path, 0) > 0 and epochs(tmp_path, 1) > 0, running)
    running.process.kill()
    running.wait()
    deadline = time.monotonic() + 60
    while "RUNNING" in outcomes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outcomes(tmp_path)[:2] == ["interrupted", "interrupted"]


def test_two_sweeps_of_one_study_share_the_work_and_the_total(tmp_path: Path) -> None:
    both = [Sweep(tmp_path, "hydra.sweeper.n_trials=6", **SLOW) for _ in range(2)]
    for running in both:
        code, output = running.wait()
        assert code == 0, output
        assert "best:" in output
    every = trials(tmp_path)
    assert [t.number for t in every] == list(range(6))
    assert {t.user_attrs["worker"]["pid"] for t in every} == {running.process.pid for running in both}


def test_machines_that_share_a_server_and_no_folder_share_the_work_and_the_total(
    tmp_path: Path, postgresql: Callable[[], str]
) -> None:
    url = postgresql()
    places = [tmp_path / name for name in ("one", "other")]
    shared = ("hydra.sweeper.n_trials=8", "hydra/sweeper/pruner=none", f"hydra.sweeper.storage={url}")
    both = []
    for place in places:
        place.mkdir()
        both.append(Sweep(place, *shared, **SLOW))
    for running in both:
        code, output = running.wait()
        assert code == 0, output
    (name,) = optuna.get_all_study_names(url)
    kept = [t for t in optuna.load_study(study_name=name, storage=url).trials if t.state.name == "COMPLETE"]
    assert len(kept) == 8
    assert sorted(t.number for t in kept for p in places if (p / "study" / str(t.number) / "result.json").exists()) == [
        t.number for t in kept
    ]
    assert len({t.user_attrs["worker"]["pid"] for t in kept}) == 2


def kill(running: Sweep, whom: str) -> None:
    """SIGKILL the parent, one of its workers, or all of them; the sweep has ended when this returns."""
    workers = running.workers()
    if whom != "worker":
        running.process.kill()
    for pid in {"parent": [], "worker": workers[-1:], "both": workers}[whom]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    running.wait()


def test_a_sweep_killed_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)
    kept: dict[int, str] = {}
    for whom in ("parent", "worker", "both"):
        running = Sweep(tmp_path, *TWO, **SLOW)
        wait_until((tmp_path / "study" / "study.db").exists, running)
        time.sleep(rng.uniform(0.5, 3))
        kill(running, whom)
        assert kept.items() <= finished(tmp_path).items()
        kept = finished(tmp_path)
    code, output = Sweep(tmp_path, *TWO).wait()
    assert code == 0, output
    check_total(tmp_path, 6)
    assert kept.items() <= finished(tmp_path).items()

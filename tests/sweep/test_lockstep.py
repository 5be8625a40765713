"""Several runs in one process that take turns: each is what it would have been alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import DROPOUT, WAITING
from omegaconf import OmegaConf
from together import Together, assert_apart, assert_equal_runs

from cifar import experiment, trust
from cifar.options.check import check
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER
from cifar.sweep.lockstep import Lockstep

MODEL = [*DROPOUT, "optimizer.lr=0.001"]
X = ["seed=7", "epochs=4", "optimizer.lr=0.002"]
"""The run that its neighbours must not change."""
AUGMENT = ["augment=trivial", "augment.flip=true", "augment.erase=0.2", "augment.mixup=0.2", "augment.cutmix=1"]
KNOBS = ["optimizer.clip_norm=0.5", "scheduler=poly", "scheduler.warmup_epochs=0.5", "objective=loss"]
NEIGHBOURS = {
    "sgd": ["seed=1", "epochs=2"],
    "adam": ["seed=2", "epochs=3", "optimizer=adam", "batch_size=24", "precision=fp32"],
    "cosine": ["seed=3", "epochs=5", "scheduler=cosine", *AUGMENT, "loss.l2=0.01"],
    "knobs": ["seed=8", "epochs=3", "ema.decay=0.9", "loss.label_smoothing=0.1", "loss.class_weights=balanced", *KNOBS],
    "diverging": ["seed=4", "optimizer.lr=1e30", "precision=fp32"],
    "failing": ["seed=5", "epochs=3"],
    "pruned": ["seed=6", "epochs=3"],
}


@pytest.fixture(autouse=True)
def trusted_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_granted", ["networks"])
    monkeypatch.setattr(trust, "_directory", str(Path(__file__).parents[1]))


@pytest.fixture
def configs(compose: Callable[..., Any], tiny: list[str]) -> dict[str, Config]:
    common = [line for line in tiny if not line.startswith("model.")] + MODEL
    runs = {"x": X, **NEIGHBOURS}
    return {name: check(compose(*common, *overrides)) for name, overrides in runs.items()}


def test_runs_in_turns_equal_their_solo_runs_bit_for_bit(
    configs: dict[str, Config], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    ordinary = {name: configs[name] for name in ("x", "sgd", "adam", "cosine", "knobs")}
    Together(1, tmp_path / "solo", ordinary)
    together = Together(3, tmp_path / "turns", ordinary)
    for name in ordinary:
        assert_equal_runs(tmp_path / "solo" / name, tmp_path / "turns" / name, timeless)
    changes = sum(a != b for a, b in zip(together.steps, together.steps[1:], strict=False))
    assert changes > len(together.steps) / 4, "they took no turns"


@pytest.mark.parametrize(
    "order",
    [
        ["sgd", "x"],
        ["x", "adam", "cosine"],
        ["cosine", "adam", "x"],
        ["diverging", "x", "sgd"],
        ["x", "failing", "pruned", "diverging", "sgd"],
    ],
    ids=" ".join,
)
def test_neighbours_change_nothing_whoever_they_are_and_however_they_end(
    order: list[str], configs: dict[str, Config], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    Together(1, tmp_path / "solo", {"x": configs["x"]})
    together = Together(3, tmp_path / "turns", {name: configs[name] for name in order})
    assert_equal_runs(tmp_path / "solo" / "x", tmp_path / "turns" / "x", timeless)
    endings = {"diverging": "Diverged", "failing": "ZeroDivisionError", "pruned": "Pruned"}
    assert together.ended == {name: endings.get(name, "finished") for name in order}


def test_a_run_that_ends_is_replaced_at_once(configs: dict[str, Config], tmp_path: Path) -> None:
    order = ["x", "failing", "pruned", "sgd"]
    together = Together(2, tmp_path, {name: configs[name] for name in order})
    last_of_x = len(together.steps) - together.steps[::-1].index("x")
    assert all(name in together.steps[:last_of_x] for name in order), "x was alone before it ended"


def test_trials_of_a_search_equal_their_solo_runs_and_have_separate_logs(
    run_py: Callable[..., Any],
    compose: Callable[..., Any],
    tiny: list[str],
    tmp_path: Path,
    timeless: Callable[[Any], dict[str, Any]],
) -> None:
    jobs = ["hydra.sweeper.n_jobs=2", "hydra.sweeper.trials_per_worker=2", "hydra.sweeper.n_trials=6"]
    quiet = ["hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none", f"hydra.sweep.dir={tmp_path / 'study'}"]
    done = run_py("-m", "hydra/sweeper=optuna", *tiny, *jobs, *quiet)
    assert done.returncode == 0, done.stderr
    for number in range(6):
        trial, solo = tmp_path / "study" / str(number), tmp_path / f"solo {number}"
        solo.mkdir()
        overrides = OmegaConf.load(trial / ".hydra" / "overrides.yaml")
        experiment.run(check(compose(*overrides)), str(solo), NO_REPORTER)
        assert_equal_runs(trial, solo, timeless)
        log = (trial / "run.log").read_text()
        assert (log.count("epoch 1/2"), log.count("epoch 2/2")) == (1, 1) and str(trial) in log
        assert len(log.splitlines()) == 6


def test_networks_of_the_gpu_tests_train_on_a_cpu(compose: Callable[..., Any], tiny: list[str], tmp_path: Path) -> None:
    """These tests run where there is a GPU: rarely."""
    common = [line for line in tiny if not line.startswith("model.")]
    configs = {options[1]: check(compose(*common, *options)) for options in (DROPOUT, WAITING)}
    assert set(Together(2, tmp_path, configs).ended.values()) == {"finished"}


def test_each_run_has_the_generators_to_itself() -> None:
    assert_apart(torch.device("cpu"))


def wait_for(event: threading.Event) -> None:
    assert event.wait(30)


def counting(size: int, capacity: float = math.inf, steps: int = 3) -> tuple[Lockstep, list[int]]:
    """A lockstep whose runs each write their number, in order of arrival, a few times."""
    written: list[int] = []
    arrived: list[int] = []

    def serve() -> None:
        number = len(arrived)
        arrived.append(number)
        lockstep.set_capacity(capacity)
        for _ in range(steps):
            written.append(number)
            lockstep.yield_control()

    lockstep = Lockstep(size, serve)
    return lockstep, written


def test_each_takes_a_step_in_turn() -> None:
    lockstep, written = counting(3, steps=50)
    lockstep.run()
    assert written == [0, 1, 2] * 50


def test_no_more_run_than_there_is_memory_for_and_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    lockstep, written = counting(8, capacity=2.9)
    lockstep.run()
    assert set(written) == {0, 1}
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "hydra.sweeper.trials_per_worker=8: the device has memory for 2 at once"


def test_memory_for_all_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lockstep, written = counting(3, capacity=3)
    lockstep.run()
    assert set(written) == {0, 1, 2} and capsys.readouterr().out == ""


def pair(one: Callable[[Lockstep], None], other: Callable[[Lockstep], None]) -> Lockstep:
    """A lockstep of two runs that do different things."""

    def serve() -> None:
        role = roles.pop(0)
        lockstep.set_capacity(2)
        role(lockstep)

    roles = [one, other]
    lockstep = Lockstep(2, serve)
    return lockstep


THREAD = threading.current_thread


def test_all_runs_are_in_one_thread() -> None:
    threads = []
    pair(*[lambda lockstep: (lockstep.yield_control(), threads.append(THREAD()))] * 2).run()
    assert threads == [THREAD()] * 2


def test_the_others_run_while_one_works_in_the_background() -> None:
    done, where = threading.Event(), list[threading.Thread]()

    def mine(lockstep: Lockstep) -> None:
        lockstep.run_in_background(lambda: (where.append(THREAD()), wait_for(done)))
        assert THREAD() not in where

    pair(mine, lambda lockstep: done.set()).run()
    assert done.is_set() and where


def test_work_in_the_background_of_one_alone_starts_no_thread() -> None:
    where = list[threading.Thread]()
    lockstep = Lockstep(1, lambda: lockstep.run_in_background(lambda: where.append(THREAD())))
    lockstep.run()
    assert where == [THREAD()]


def test_work_in_the_background_may_fail() -> None:
    errors = []

    def mine(lockstep: Lockstep) -> None:
        try:
            lockstep.run_in_background(lambda: 1 / 0)
        except ZeroDivisionError as error:
            errors.append(error)

    pair(mine, lambda lockstep: lockstep.yield_control()).run()
    assert errors


def test_all_may_work_in_the_background_at_once() -> None:
    both, met = threading.Barrier(2), list[int]()
    pair(*[lambda lockstep: lockstep.run_in_background(lambda: met.append(both.wait(30)))] * 2).run()
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("where", ["first", "other"])
def test_what_one_raises_stops_the_others_at_once_and_is_raised(
    error: BaseException, where: str, in_background: bool
) -> None:
    stopped: list[str] = []

    def endless(lockstep: Lockstep) -> None:
        try:
            while True:
                lockstep.run_in_background(lambda: time.sleep(0.2)) if in_background else lockstep.yield_control()
        except KeyboardInterrupt:
            stopped.append("at once")
            raise

    def faulty(lockstep: Lockstep) -> None:
        lockstep.yield_control()
        raise error

    roles = (faulty, endless) if where == "first" else (endless, faulty)
    with pytest.raises(type(error)) as raised:
        pair(*roles).run()
    assert raised.value is error and stopped == ["at once"]

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from cifar.reporting import EpochMetrics, Interrupted, Pruned
from cifar.results import RunDirectory
from cifar.signals import StopFlag
from cifar.sweep.lockstep import Lockstep
from cifar.sweep.space import Space, parse
from cifar.sweep.study import Branch, SharedStudy, create
from cifar.sweep.worker import RUNNING, Pulse, TakenOver, TrialReporter, grid, own_log, quoted


def epoch(number: int, accuracy: float = 0.5) -> EpochMetrics:
    return EpochMetrics(number, 1.0, 0.5, 1.0, accuracy, 0.1, 1.0, 100.0)


def make_study(folder: Path, pruner: optuna.pruners.BasePruner | None = None) -> SharedStudy:
    url = f"sqlite:///{folder}/study.db"
    create(url, "s", folder, "maximize", {})
    return SharedStudy(url, "s", folder, 10, pruner or optuna.pruners.NopPruner(), 3)


def ask(study: SharedStudy) -> optuna.Trial:
    trial = study.ask(lambda number: optuna.samplers.RandomSampler(seed=number), 0)
    assert trial is not None
    return trial


def test_every_epoch_reaches_the_study(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    reporter = TrialReporter(ask(study), StopFlag())
    reporter.report(1, 0.1)
    reporter.report(2, 0.4)
    assert study.trials()[0].intermediate_values == {1: 0.1, 2: 0.4}


def test_a_trial_worse_than_its_threshold_is_pruned_and_keeps_its_curve(tmp_path: Path) -> None:
    study = make_study(tmp_path, optuna.pruners.ThresholdPruner(lower=0.3))
    reporter = TrialReporter(ask(study), StopFlag())
    reporter.report(1, 0.4)
    with pytest.raises(Pruned, match="epoch 2"):
        reporter.report(2, 0.2)
    assert study.trials()[0].intermediate_values == {1: 0.4, 2: 0.2}


def test_earlier_epochs_are_repeated_once_and_prune_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path, optuna.pruners.ThresholdPruner(lower=0.3))
    RunDirectory(tmp_path).start([epoch(1, 0.1), epoch(2, 0.4)], resumed=False)
    reporter = TrialReporter(ask(study), StopFlag())
    reporter.repeat(tmp_path / "metrics.csv")
    reporter.report(2, 0.4)
    reporter.report(3, 0.5)
    assert study.trials()[0].intermediate_values == {1: 0.1, 2: 0.4, 3: 0.5}


def test_a_worker_that_is_to_stop_stops_after_the_epoch(tmp_path: Path) -> None:
    stopping = StopFlag()
    reporter = TrialReporter(ask(make_study(tmp_path)), stopping)
    reporter.report(1, 0.5)
    stopping.set()
    with pytest.raises(Interrupted):
        reporter.report(2, 0.5)


def test_a_trial_that_others_hold_for_lost_is_given_up(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trial = ask(study)
    study.fail(trial, "lost", "asleep")
    with pytest.raises(TakenOver, match="trial 0"):
        TrialReporter(trial, StopFlag()).report(1, 0.5)


def wait_for(condition: threading.Event) -> None:
    assert condition.wait(30)


def test_signs_of_life_come_while_the_main_thread_is_busy(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    beaten = threading.Event()
    beat = study.beat

    def counting(trial: optuna.Trial, count: int) -> None:
        beat(trial, count)
        beaten.set() if count > 2 else None

    study.beat = counting  # type: ignore[method-assign]
    pulse = Pulse(study, 0.01, lambda: False)
    with pulse.beating(), pulse.of(ask(study)):
        wait_for(beaten)
    assert study.trials()[0].system_attrs["heartbeat"] > 2


def test_every_trial_of_a_worker_gives_signs_of_life(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    first, ended, last = ask(study), ask(study), ask(study)
    beaten = threading.Event()
    beat = study.beat

    def counting(trial: optuna.Trial, count: int) -> None:
        beat(trial, count)
        beaten.set() if trial.number == last.number and count > 2 else None

    study.beat = counting  # type: ignore[method-assign]
    study.fail(ended, "lost", "asleep")
    pulse = Pulse(study, 0.01, lambda: False)
    with pulse.beating(), pulse.of(first), pulse.of(ended), pulse.of(last):
        wait_for(beaten)
    beats = [t.system_attrs.get("heartbeat", 0) for t in study.trials()]
    assert beats[0] > 2 and beats[1] == 0 and beats[2] > 2


def test_a_worker_that_is_to_stop_stops_after_the_step(tmp_path: Path) -> None:
    stopping = StopFlag()
    reporter = TrialReporter(ask(make_study(tmp_path)), stopping)
    reporter.coordinator.yield_control()
    stopping.set()
    with pytest.raises(Interrupted):
        reporter.coordinator.yield_control()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_handlers_come_back(tmp_path: Path, signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    pulse = Pulse(make_study(tmp_path), 10, lambda: False)
    with pulse.beating():
        os.kill(os.getpid(), signum)
        assert pulse.stop.wait(30)
    assert signal.getsignal(signum) is before


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    pulse = Pulse(make_study(tmp_path), 10, lambda: False)
    with pytest.raises(KeyboardInterrupt), pulse.beating():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)


def test_a_worker_hears_that_it_should_stop(tmp_path: Path) -> None:
    pulse = Pulse(make_study(tmp_path), 0.01, lambda: True)
    with pulse.beating():
        assert pulse.stop.wait(30)


def test_a_storage_that_is_busy_does_not_end_the_pulse(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    again = threading.Event()
    failures = iter([RuntimeError("database is locked")])

    def look() -> None:
        for failure in failures:
            raise failure
        again.set()

    study.look = look  # type: ignore[method-assign]
    with Pulse(study, 0.01, lambda: False).beating():
        wait_for(again)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_trials_in_turns_log_each_to_its_own_file_whichever_thread_works_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: list[Kept] = []

    def trial() -> None:
        assert RUNNING.get() is None
        number = len(handlers)
        handlers.append(Kept())
        monkeypatch.setattr(logging.getLogger(), "handlers", [handlers[number]])  # as Hydra does
        RUNNING.set(number)
        with own_log(number):
            lockstep.set_capacity(2)
            for where in (lockstep.run_in_background, lambda work: work()):
                lockstep.yield_control()
                where(lambda: logging.warning("of %d", number))

    lockstep = Lockstep(2, trial)
    lockstep.run()
    assert [handler.messages for handler in handlers] == [["of 0"] * 2, ["of 1"] * 2]


def test_a_branch_holds_the_trials_of_its_options_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    for option in ("sgd", "adam", "sgd"):
        study.study.enqueue_trial({"optimizer": option})
        ask(study).suggest_categorical("optimizer", ["sgd", "adam"])
    options = Counter(t.params["optimizer"] for t in Branch(study.study, {"optimizer": "sgd"}).get_trials())
    assert options == {"sgd": 2}


@pytest.mark.parametrize("path", ["/a b/c", "it's", "a,b=[1]{$}", "back\\slash"])
def test_a_quoted_text_is_read_back_by_hydra(path: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"resume={quoted(path)}"])
    value = override.value()
    assert str(getattr(value, "text", value)) == path


def test_a_grid_lists_every_value() -> None:
    space: Space = parse(["a=choice(x,y)", "b=range(1,4)"])
    assert {key: list(values) for key, values in grid(space).items()} == {"a": ["x", "y"], "b": [1, 2, 3]}

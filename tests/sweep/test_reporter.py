from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from sweeps import ask, make_study

from cifar.errors import UserError
from cifar.reporting import Coordinator, Interrupted, Pruned
from cifar.signals import StopFlag
from cifar.sweep.lockstep import Lockstep
from cifar.sweep.reporter import TakenOver, TrialReporter, TurnTaking


def reporter_of(trial: optuna.Trial, stop: StopFlag | None = None, metric: str | None = None) -> TrialReporter:
    return TrialReporter(trial, stop or StopFlag(), Coordinator(), metric)


def test_every_epoch_reaches_the_study(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    reporter = reporter_of(ask(study))
    reporter.report(1, 0.1)
    reporter.report(2, 0.4)
    assert study.trials()[0].intermediate_values == {1: 0.1, 2: 0.4}


def test_of_several_metrics_the_study_gets_the_one_to_optimise(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    reporter = reporter_of(ask(study), metric="val_accuracy")
    reporter.report(1, {"val_loss": 2.0, "val_accuracy": 0.1})
    assert study.trials()[0].intermediate_values == {1: 0.1}
    with pytest.raises(UserError, match="val_loss: not the metric to optimise; allowed: a number, or val_accuracy"):
        reporter.report(2, {"val_loss": 2.0})


def test_a_trial_worse_than_its_threshold_is_pruned_and_keeps_its_curve(tmp_path: Path) -> None:
    study = make_study(tmp_path, optuna.pruners.ThresholdPruner(lower=0.3))
    reporter = reporter_of(ask(study))
    reporter.report(1, 0.4)
    with pytest.raises(Pruned, match="epoch 2"):
        reporter.report(2, 0.2)
    assert study.trials()[0].intermediate_values == {1: 0.4, 2: 0.2}


def test_earlier_epochs_are_repeated_once_and_prune_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path, optuna.pruners.ThresholdPruner(lower=0.3))
    reporter = reporter_of(ask(study))
    reporter.repeat([(1, 0.1), (2, 0.4)])
    reporter.report(2, 0.4)
    reporter.report(3, 0.5)
    assert study.trials()[0].intermediate_values == {1: 0.1, 2: 0.4, 3: 0.5}


def test_a_worker_that_has_to_stop_stops_after_the_epoch(tmp_path: Path) -> None:
    stop = StopFlag()
    reporter = reporter_of(ask(make_study(tmp_path)), stop)
    reporter.report(1, 0.5)
    stop.set()
    with pytest.raises(Interrupted):
        reporter.report(2, 0.5)


def test_a_worker_that_has_to_stop_stops_after_the_step() -> None:
    stop = StopFlag()
    coordinator = TurnTaking(stop, Lockstep(1, lambda: None))
    coordinator.yield_control()
    stop.set()
    with pytest.raises(Interrupted):
        coordinator.yield_control()


def test_a_trial_that_another_worker_took_over_ends(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    trial = ask(study)
    study.fail(trial, "lost", "asleep")
    with pytest.raises(TakenOver, match="trial 0"):
        reporter_of(trial).report(1, 0.5)

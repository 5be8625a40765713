"""A run with a time: its plan, corrections, resumptions, and what is recorded."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import TRANSFER
from timing import Clock, Ticking, assert_equal, planning, slowed

from cifar import timed as timekeeping
from cifar.durations import Durations
from cifar.experiment import build_trainer, load_splits, run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER, Interrupted, Reporter
from cifar.results import read_metrics, read_result
from cifar.timed import Timekeeper
from cifar.training import schedulers
from cifar.training.plan import Pace, measure
from cifar.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
Settings = Callable[..., Config]


def keeping(
    make_trainer: MakeTrainer,
    clock: Clock,
    time: str = "100s",
    step: float = 0.1,
    score: float = 0.05,
    slowness: Callable[[float], float] = lambda now: 1.0,
    most: int = 1000,
) -> Timekeeper:
    """The timekeeper of a trainer whose epochs have 6 steps and 3 batches to validate on."""
    trainer = slowed(planning(make_trainer(), schedulers.onecycle, warmup=0.3), clock, step, score, slowness)
    return Timekeeper(time, trainer, Durations(clock), lambda epochs: None, most)


def train(keeper: Timekeeper, saving: float = 0.0, epochs: int = 10**9) -> list[float]:
    """Train on, as a run does; returns the learning rate of each step."""
    trainer, rates = keeper.trainer, []

    def after_step() -> None:
        rates.append(float(trainer.optimizer.param_groups[0]["lr"]))
        keeper.after_step()

    for metrics in trainer.epochs(after_step):
        keeper.durations.add("validation", trainer.validation_seconds)
        with keeper.durations.measuring("saving"):
            keeper.clock.now += saving  # type: ignore[attr-defined]
        last = metrics.lr
        if metrics.epoch == epochs:
            break
    return [*rates[:-1], last]


def last_rate(make_trainer: MakeTrainer, steps: int) -> float:
    """The last learning rate of the same schedule."""
    trainer = planning(make_trainer(), schedulers.onecycle, warmup=0.3)
    trainer.plan(steps)
    for _ in range(steps - 1):
        trainer.optimizer.step()
        trainer.schedule.step()
    return float(trainer.optimizer.param_groups[0]["lr"])


def test_at_an_even_pace_the_first_plan_is_kept(make_trainer: MakeTrainer) -> None:
    keeper = keeping(make_trainer, Clock())
    keeper.begin({})
    steps = keeper.trainer.steps
    train(keeper)
    assert keeper.corrections == [] and keeper.trainer.steps == steps and keeper.epochs == keeper.planned
    assert keeper.used == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize(
    "slowness",
    [
        lambda now: 2.0 if now > 20 else 1.0,
        lambda now: 0.5 if now > 20 else 1.0,
        lambda now: 1.7 if 35 < now < 60 else 1.0,
        lambda now: 3.0 if now < 5 else 1.0,
        lambda now: 0.4 if now < 30 else 1.0,
    ],
    ids=["slower", "faster", "slower for a while", "slow at first", "fast at first"],
)
@pytest.mark.parametrize("step", [0.1, 1.3], ids=["many epochs", "few epochs"])
def test_where_the_pace_changes_the_run_ends_in_its_time_and_its_schedule_is_finished(
    slowness: Callable[[float], float], step: float, make_trainer: MakeTrainer
) -> None:
    keeper = keeping(make_trainer, Clock(), step=step, score=step / 2, slowness=slowness)
    keeper.begin({})
    planned = keeper.trainer.steps
    rates = train(keeper, saving=0.1)
    assert keeper.used == pytest.approx(100, rel=0.05)
    assert keeper.corrections and len(rates) == keeper.trainer.steps != planned
    assert rates[-1] == last_rate(make_trainer, planned)


def test_what_is_not_measured_before_the_first_epoch_is_corrected(make_trainer: MakeTrainer) -> None:
    keeper = keeping(make_trainer, Clock())
    keeper.begin({})
    train(keeper, saving=2.0)  # an epoch takes 0.75 s without it
    assert keeper.used == pytest.approx(100, rel=0.05)
    assert len(keeper.corrections) <= 3


def test_a_time_shorter_than_an_epoch_trains_a_part_of_it(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keeping(make_trainer, Clock(), "100s", step=25, score=1)
    keeper.begin({})
    rates = train(keeper)
    assert keeper.trainer.done == 1 and len(rates) < 6 and keeper.used < 105
    assert "time=100s: less than one epoch" in caplog.text


def test_a_step_longer_than_the_time_is_taken_and_a_warning_says_so(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keeping(make_trainer, Clock(), "5s", step=11, score=1)
    keeper.begin({})
    assert keeper.used == 24 and keeper.pace == Pace(11, 3)
    assert "time=5s: it takes about 38 s, as a step of" in caplog.text and "smaller batch_size" in caplog.text
    assert len(train(keeper)) == 1


def test_there_is_a_most_of_epochs(make_trainer: MakeTrainer) -> None:
    keeper = keeping(make_trainer, Clock(), most=7)
    keeper.begin({})
    train(keeper)
    assert (keeper.trainer.done, keeper.corrections) == (7, [])


class Pause:
    """How slow each step is: one of them, the first after `start` seconds, `factor` times as slow as the others."""

    def __init__(self, start: float, factor: float) -> None:
        self.start, self.factor, self.was = start, factor, False

    def __call__(self, now: float) -> float:
        is_first, self.was = now >= self.start and not self.was, self.was or now >= self.start
        return self.factor if is_first else 1.0


@pytest.mark.parametrize("start", [5, 30, 45, 60])
def test_a_pause_of_the_machine_does_not_end_the_run_early(start: int, make_trainer: MakeTrainer) -> None:
    """It makes the pace look slow, which is seen before the few steps that are left then are done."""
    keeper = keeping(make_trainer, Clock(), slowness=Pause(start, 330))
    keeper.begin({})
    planned = keeper.trainer.steps
    rates = train(keeper)
    assert keeper.used == pytest.approx(100, rel=0.05) and len(keeper.corrections) <= 3
    assert rates[-1] == last_rate(make_trainer, planned)


@pytest.mark.parametrize("pace", [1.0, 2.0, 0.5])
def test_a_run_that_is_resumed_has_the_rest_of_its_time(pace: float, make_trainer: MakeTrainer) -> None:
    first = keeping(make_trainer, Clock())
    first.begin({})
    train(first, saving=0.05, epochs=60)
    planned = first.trainer.stretch.total  # type: ignore[union-attr]
    state = copy.deepcopy({"timed": first.state_dict(), **first.trainer.state_dict()})
    used = first.used
    assert 30 < used < 70
    clock = Clock()
    resumed = keeping(make_trainer, clock, slowness=lambda now: pace)
    resumed.trainer.load_state_dict(state)
    resumed.begin(state)
    rates = train(resumed, saving=0.05)
    assert clock.now == pytest.approx(100 - used, rel=0.1)
    assert resumed.used == pytest.approx(100, rel=0.05)
    assert rates[-1] == last_rate(make_trainer, planned)


def test_the_first_step_of_a_run_that_is_resumed_is_not_its_pace(make_trainer: MakeTrainer) -> None:
    """It compiles, and captures."""
    first = keeping(make_trainer, Clock())
    first.begin({})
    train(first, epochs=60)
    state = copy.deepcopy({"timed": first.state_dict(), **first.trainer.state_dict()})
    resumed = keeping(make_trainer, Clock(), slowness=Pause(0, 200))  # of 20 seconds
    resumed.trainer.load_state_dict(state)
    resumed.begin(state)
    train(resumed)
    assert resumed.used == pytest.approx(100, rel=0.03)
    assert len(resumed.corrections) == 1, "for the seconds of that step"


def test_another_time_takes_effect_when_a_run_is_resumed(make_trainer: MakeTrainer) -> None:
    first = keeping(make_trainer, Clock())
    first.begin({})
    train(first, epochs=60)
    state = copy.deepcopy({"timed": first.state_dict(), **first.trainer.state_dict()})
    resumed = keeping(make_trainer, Clock(), "200s")
    resumed.trainer.load_state_dict(state)
    resumed.begin(state)
    train(resumed)
    assert resumed.used == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(
    "options",
    [
        ("cache.memory_share=1e-9",),
        ("ema.decay=0.9", "augment=randaugment", "augment.mixup=0.2"),
        ("transfer=frozen", *TRANSFER, "transfer.views=2", "augment.flip=true"),
        ("transfer=finetune", *TRANSFER, "optimizer=adamw"),
    ],
    ids=["on disk", "average and mixup", "frozen", "finetune"],
)
def test_nothing_changes_by_measuring(
    options: tuple[str, ...], compose: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    general = [line for line in tiny if not (options[0].startswith("transfer") and line.startswith("model."))]
    config = check(compose(*general, *options, f"cache.dir={tmp_path}"))
    trainer = build_trainer(config, load_splits(config), torch.device("cpu"))
    before = copy.deepcopy(trainer.state_dict())
    buffers = [buffer.clone() for buffer in trainer.measured.buffers()]
    pace = measure(trainer, 0.1)
    assert pace.step > 0 and pace.epoch > 0
    assert_equal(trainer.state_dict(), before)
    assert all(map(torch.equal, trainer.measured.buffers(), buffers))


# --- whole runs, with a clock that ticks whenever it is read


def rows(place: Path, timeless: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    return [timeless(metrics) for metrics in read_metrics(place / "metrics.csv")]


@pytest.mark.parametrize(
    "options",
    [
        ["scheduler=cosine"],
        ["scheduler=onecycle", "scheduler.warmup_epochs=1", "ema.decay=0.9", "optimizer=adam"],
        ["scheduler=poly", "scheduler.warmup_epochs=1.5", "augment=trivial", "loss.label_smoothing=0.1"],
    ],
    ids=lambda options: options[0],
)
def test_a_run_of_as_many_epochs_as_were_planned_is_the_same_run(
    options: list[str],
    settings: Settings,
    tmp_path: Path,
    timeless: Callable[[Any], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timekeeping, "CORRECTED", math.inf)
    timed, plain = tmp_path / "timed", tmp_path / "plain"
    for place in (timed, plain):
        place.mkdir()
    one_batch = "batch_size=96"  # so that every plan is of whole epochs
    run(settings(*options, one_batch, "time=8m"), str(timed), NO_REPORTER, clock=Ticking(4))
    result = read_result(timed)
    assert result["plan"]["corrections"] == [] and result["plan"]["steps_per_epoch"] == 1
    run(settings(*options, one_batch, f"epochs={result['epochs']}"), str(plain), NO_REPORTER)
    assert result["epochs"] > 3 and rows(timed, timeless) == rows(plain, timeless)


def test_the_record_of_a_run_with_a_time(settings: Settings, tmp_path: Path) -> None:
    config = settings("time=10s", "epochs=7")
    run(config, str(tmp_path), NO_REPORTER, clock=Ticking(0.05))
    result = read_result(tmp_path)
    plan = result["plan"]
    assert plan["time"] == "10s" and plan["seconds"] == pytest.approx(10, rel=0.05)
    assert result["epochs"] == result["epochs_done"] == -(-plan["steps"] // 3)
    assert plan["whole_epochs"] == result["epochs"]
    assert plan["steps_per_epoch"] == 3
    assert {"reading", "measuring", "training", "validation", "saving"} <= result["seconds"].keys()
    plain = tmp_path / "plain"
    plain.mkdir()
    run(settings("epochs=1"), str(plain), NO_REPORTER)
    assert "plan" not in read_result(plain) and read_result(plain)["epochs"] == 1


def test_a_run_can_be_stopped_while_its_pace_is_measured(settings: Settings, tmp_path: Path) -> None:
    def clock() -> float:
        if (tmp_path / "result.json").exists() and signals:
            os.kill(os.getpid(), signals.pop())
        return next(times)

    signals, times = [signal.SIGTERM], itertools.count(0.0, 0.01)
    with pytest.raises(Interrupted, match=r"interrupted before the end of the first epoch; to resume: .*resume="):
        run(settings("time=5h"), str(tmp_path), NO_REPORTER, clock=clock)
    assert read_result(tmp_path)["status"] == "interrupted" and "plan" not in read_result(tmp_path)


class StopAfter(Reporter):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def report(self, step: int, metrics: Any) -> None:
        if step == self.epoch:
            raise Interrupted("stopped", 15)


def test_a_run_that_is_stopped_and_resumed_ends_in_its_time(settings: Settings, tmp_path: Path) -> None:
    options = ("time=10s", "scheduler=cosine")
    with pytest.raises(Interrupted):
        run(settings(*options), str(tmp_path), StopAfter(4), clock=Ticking(0.05))
    stopped = read_result(tmp_path)
    assert stopped["status"] == "interrupted" and 0 < stopped["plan"]["seconds"] < 8
    assert json.loads((tmp_path / "result.json").read_text())["epochs"] == stopped["epochs"]
    run(settings(*options, f"resume={tmp_path}"), str(tmp_path), NO_REPORTER, clock=Ticking(0.05))
    result = read_result(tmp_path)
    assert result["plan"]["seconds"] == pytest.approx(10, rel=0.05)
    assert result["epochs_done"] == result["epochs"] > 4
    assert result["seconds"]["training"] > stopped["seconds"]["training"]


@pytest.mark.parametrize("scheduler", ["plateau", "onecycle"])
def test_a_warm_up_that_is_longer_than_the_plan_is_an_error_before_training(
    scheduler: str, settings: Settings, tmp_path: Path
) -> None:
    config = settings("time=30s", f"scheduler={scheduler}", "scheduler.warmup_epochs=50")
    with pytest.raises(ConfigError, match=r"scheduler\.warmup_epochs=50: the run has no more epochs \(time=30s: "):
        run(config, str(tmp_path), NO_REPORTER, clock=Ticking(0.5))
    assert read_metrics(tmp_path / "metrics.csv") == []

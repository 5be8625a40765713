"""A plan: how many steps fit into a time, the pace of a trainer, and a schedule that is stretched."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timing import Clock, Slow, assert_equal, planned, slowed

from cifar.training import schedulers
from cifar.training.plan import Pace, measure, steps_left
from cifar.training.schedulers import Stretch
from cifar.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
PER_STEP = [(schedulers.cosine, {}), (schedulers.onecycle, {"warmup": 0.3}), (schedulers.poly, {"power": 2.0})]


@pytest.mark.parametrize(
    ("seconds", "into", "expected"),
    [
        (60, 0, 50),  # five epochs of 10 steps, each 12 s
        (60, 4, 48),  # with 4 steps done: these need one more validation
        (65, 0, 53),  # 5 s more: validation takes 2 s of these
        (61, 0, 50),  # not enough for a step and its validation
        (5, 0, 3),
        (1, 0, 1),  # a step at least
        (-3, 7, 1),
        (3, 9, 1),
    ],
)
def test_the_steps_that_fit_into_a_time(seconds: float, into: int, expected: int) -> None:
    assert steps_left(seconds, Pace(step=1.0, epoch=2.0), 10, into) == expected


@pytest.mark.parametrize(
    ("seconds", "tolerance", "expected"), [(65, 5, 50), (65, 4, 53), (68, 5, 60), (5, 5, 3), (8, 5, 10)]
)
def test_the_last_epoch_is_whole_where_it_ends_within_the_tolerance(
    seconds: float, tolerance: float, expected: int
) -> None:
    assert steps_left(seconds, Pace(step=1.0, epoch=2.0), 10, tolerance=tolerance) == expected


def test_the_end_of_a_plan_is_never_late_and_early_by_less_than_an_epochs_validation() -> None:
    pace, batches = Pace(step=0.7, epoch=3.1), 9
    for tenths in range(60, 1500, 7):
        for into in range(9):
            seconds = tenths / 10
            steps = steps_left(seconds, pace, batches, into)
            end = steps * pace.step + -(-(into + steps) // batches) * pace.epoch
            assert seconds - pace.epoch - pace.step - 1e-9 <= end <= seconds + 1e-9 or steps == 1


def test_measuring_gives_the_seconds_of_a_step_and_of_a_validation(make_trainer: MakeTrainer) -> None:
    trainer = slowed(make_trainer(), Clock(), step=2.0, score=0.5)
    pace = measure(trainer, most=1000.0)
    assert pace.step == pytest.approx(2.0) and pace.epoch == pytest.approx(0.5 * 3)
    assert calls(trainer) == 22


def calls(trainer: Trainer) -> int:
    assert isinstance(trainer.step, Slow)
    return trainer.step.calls


def test_measuring_takes_little_more_than_it_may(make_trainer: MakeTrainer) -> None:
    clock = Clock()
    trainer = slowed(make_trainer(), clock, step=2.0, score=0.1)
    pace = measure(trainer, most=7.0)
    assert pace.step == pytest.approx(2.0) and clock.now < 7.0 + 3 * 2.0 + 7.0 / 4 + 1.0
    slower = slowed(make_trainer(), Clock(), step=50.0, score=0.1)
    assert measure(slower, most=7.0).step == pytest.approx(50.0) and calls(slower) == 2


def test_measuring_can_be_stopped_after_each_batch(make_trainer: MakeTrainer) -> None:
    trainer = slowed(make_trainer(), Clock(), step=2.0, score=0.5)
    left = iter([None, None])
    with pytest.raises(StopIteration):
        measure(trainer, most=1000.0, after_batch=lambda: next(left))
    assert calls(trainer) == 3


def test_the_first_step_is_never_part_of_the_pace(make_trainer: MakeTrainer) -> None:
    """On a GPU it captures and compiles, for seconds."""
    clock = Clock()
    trainer = slowed(make_trainer(), clock, step=0.01, score=0.01, slowness=lambda now: 300.0 if now < 0.01 else 1.0)
    assert measure(trainer, most=1.0).step == pytest.approx(0.01)


@pytest.mark.parametrize("schedule", [schedulers.plateau, schedulers.cosine])
def test_a_run_is_as_if_nothing_had_been_measured(
    schedule: Any, make_trainer: MakeTrainer, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    settings = {"patience": 0, "factor": 0.5} if schedule is schedulers.plateau else {}
    plain, measured = (make_trainer(schedule, **settings) for _ in range(2))
    random = torch.get_rng_state()
    plain_epochs = [timeless(metrics) for metrics in plain.epochs()]
    torch.set_rng_state(random)
    before = copy.deepcopy(measured.state_dict())
    measure(measured, most=1.0)
    assert_equal(measured.state_dict(), before)
    assert [timeless(metrics) for metrics in measured.epochs()] == plain_epochs
    assert_equal(measured.state_dict(), plain.state_dict())


@pytest.mark.parametrize(("schedule", "settings"), PER_STEP)
def test_a_plan_of_whole_epochs_is_a_run_of_that_many(
    schedule: Any, settings: dict[str, Any], make_trainer: MakeTrainer, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    plain = [timeless(metrics) for metrics in make_trainer(schedule, total=3, **settings).epochs()]
    timed = planned(make_trainer(total=99), schedule, 18, **settings)
    torch.manual_seed(0)
    make_trainer(total=3)  # the generator is where it was before the first epoch
    assert [timeless(metrics) for metrics in timed.epochs()] == plain


def test_the_last_epoch_may_be_a_part(make_trainer: MakeTrainer) -> None:
    trainer = planned(make_trainer(), schedulers.cosine, 14)
    epochs = list(trainer.epochs())
    assert [metrics.epoch for metrics in epochs] == [1, 2, 3]
    assert trainer.images_trained == 8 and 0 < epochs[-1].train_accuracy <= 1
    assert epochs[-1].lr == pytest.approx(0.05 * (1 + torch.cos(torch.tensor(torch.pi * 13 / 14))).item(), rel=1e-4)


@pytest.mark.parametrize(("schedule", "settings"), PER_STEP)
@pytest.mark.parametrize("left", [1, 2, 5, 11, 40])
def test_after_a_correction_the_last_learning_rate_is_the_schedules_last(
    schedule: Any, settings: dict[str, Any], left: int, make_trainer: MakeTrainer
) -> None:
    expected = list(planned(make_trainer(), schedule, 18, **settings).epochs())[-1].lr
    trainer = planned(make_trainer(), schedule, 18, **settings)
    rates = []

    def after_step() -> None:
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        if len(rates) == 8:
            trainer.correct(left)

    epochs = list(trainer.epochs(after_step))
    assert len(rates) == 8 + left and epochs[-1].lr == expected
    assert trainer.done == trainer.total == -(-(8 + left) // 6)


def test_a_correction_does_not_make_the_learning_rate_jump(make_trainer: MakeTrainer) -> None:
    trainer = planned(make_trainer(), schedulers.cosine, 60)
    rates: list[float] = []

    def after_step() -> None:
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        if len(rates) == 20:
            trainer.correct(60)

    list(trainer.epochs(after_step))
    assert len(rates) == 80
    assert max(abs(one - other) for one, other in itertools.pairwise(rates)) < 0.005


@pytest.mark.parametrize(("total", "done", "left"), [(10, 3, 7), (10, 3, 20), (10, 3, 2), (10, 3, 1), (1000, 10, 3)])
def test_a_stretched_schedule_takes_all_of_its_steps(total: int, done: int, left: int) -> None:
    stretch = Stretch(total)
    assert [stretch.step() for _ in range(done)] == [1] * done
    at_once = stretch.correct(left)
    before_the_last = done + at_once + sum(stretch.step() for _ in range(left - 1))
    assert before_the_last == total - 1
    assert stretch.step() == 1 and stretch.position == total
    copied = Stretch(1)
    copied.load_state_dict(stretch.state_dict())
    assert vars(copied) == vars(stretch)


def test_a_corrected_plan_resumes_as_it_would_have_continued(
    make_trainer: MakeTrainer, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    def corrected() -> Trainer:
        trainer = planned(make_trainer(), schedulers.onecycle, 18, warmup=0.3)
        steps = []

        def after_step() -> None:
            steps.append(None)
            if len(steps) == 4:
                trainer.correct(25)

        next(trainer.epochs(after_step))
        return trainer

    one, other = corrected(), planned(make_trainer(), schedulers.onecycle, 7, warmup=0.3)
    state = copy.deepcopy(one.state_dict())
    rest = [timeless(metrics) for metrics in one.epochs()]
    other.load_state_dict(state)
    assert (other.total, other.steps) == (5, 29)
    assert [timeless(metrics) for metrics in other.epochs()] == rest
    assert_equal(other.state_dict(), one.state_dict())

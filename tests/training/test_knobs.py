"""Smoothing, class weights, clipping, warm-up, an average of the weights: resumed, and from static buffers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_step import imitated_graph, make_static
from torch import nn

from cifar.training import checkpoint, schedulers
from cifar.training.average import START, MovingAverage, NoAverage, build_average
from cifar.training.loss import build_loss, class_weights
from cifar.training.optim import clipping
from cifar.training.step import EagerScore, EagerStep
from cifar.training.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
Timeless = Callable[[Any], dict[str, Any]]
Schedule = Callable[[torch.optim.Optimizer, int], schedulers.Schedule]


def warmed_cosine(optimizer: torch.optim.Optimizer, steps: int) -> schedulers.Schedule:
    return schedulers.Warmup(schedulers.cosine(optimizer, steps - 9), 9)


def with_all(
    trainer: Trainer,
    norm: float | None = 0.5,
    decay: float | None = 0.9,
    smoothing: float = 0.1,
    weights: str | None = "balanced",
) -> Trainer:
    """The trainer with every knob on that its scheduler does not have."""
    assert isinstance(trainer.step, EagerStep)
    average = build_average(trainer.model, decay)
    loss = build_loss(smoothing, class_weights(weights, trainer.train.labels, ("a", "b", "c")))
    step = EagerStep(trainer.model, trainer.step.decayed, 0.01, trainer.step.autocast, loss)
    score = EagerScore(average.measured(trainer.model), trainer.step.autocast)
    clip = clipping(trainer.optimizer, norm)
    return dataclasses.replace(trainer, step=step, score=score, average=average, clip=clip)


def make_unbalanced(make_trainer: MakeTrainer, schedule: Schedule = warmed_cosine, device: str = "cpu") -> Trainer:
    trainer = make_trainer(schedule, total=4, device=device)
    trainer.train.labels[:12] = 0
    return trainer


@pytest.fixture
def make(make_trainer: MakeTrainer) -> Callable[[], Trainer]:
    return lambda: with_all(make_unbalanced(make_trainer))


def test_a_resumed_run_equals_one_never_interrupted_bit_for_bit(
    make: Callable[[], Trainer], timeless: Timeless, tmp_path: Path
) -> None:
    """Interrupted within the warm-up (after 6 of its 9 steps), and after it."""
    whole = make()
    expected = [timeless(metrics) for metrics in whole.epochs()]
    for done in (1, 3):
        first = make()
        epochs = first.epochs()
        resumed = [timeless(next(epochs)) for _ in range(done)]
        checkpoint.save(tmp_path / "checkpoint.pt", first.state_dict())
        second = make()
        for p in second.model.parameters():
            p.data.normal_()
        second.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
        resumed += [timeless(metrics) for metrics in second.epochs()]
        assert resumed == expected
        for network, other in ((whole.model, second.model), (whole.measured, second.measured)):
            state = other.state_dict()
            assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_static_buffers_change_no_bit(make: Callable[[], Trainer], timeless: Timeless) -> None:
    plain, static = make(), make_static(make(), imitated_graph)
    torch.manual_seed(7)
    expected = [timeless(metrics) for metrics in plain.epochs()]
    torch.manual_seed(7)
    assert [timeless(metrics) for metrics in static.epochs()] == expected


def check_on(device: str, make_trainer: MakeTrainer) -> None:
    """One epoch with all knobs on, and one with each of them off: each has an effect."""
    off: list[dict[str, Any]] = [{}, {"norm": None}, {"decay": None}, {"smoothing": 0.0}, {"weights": None}]
    trainers = [with_all(make_unbalanced(make_trainer, device=device), **settings) for settings in off]
    trainers.append(with_all(make_unbalanced(make_trainer, schedulers.cosine, device)))  # no warm-up
    losses = {next(trainer.epochs()).val_loss for trainer in trainers}
    assert len(losses) == 6


def test_each_has_an_effect(make_trainer: MakeTrainer) -> None:
    check_on("cpu", make_trainer)


@pytest.mark.cuda
def test_each_has_an_effect_on_a_gpu(make_trainer: MakeTrainer) -> None:
    check_on("cuda", make_trainer)


def test_gradients_are_clipped_as_one_vector(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer = dataclasses.replace(trainer, clip=clipping(trainer.optimizer, 0.01))
    lengths = []

    def measure() -> None:
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        lengths.append(float(torch.cat(gradients).norm()))

    next(trainer.epochs(measure))
    assert lengths == pytest.approx([0.01] * 6, rel=1e-3)


# --- the average


def test_the_average_is_that_of_its_formula_and_statistics_are_averaged_too() -> None:
    """Of weights and running statistics; counts are copied."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = MovingAverage(model, 0.5)
    expected: dict[str, torch.Tensor] = {}
    for n in range(12):
        for tensor in model.state_dict().values():
            tensor.add_(1) if tensor.dtype == torch.int64 else tensor.normal_()
        average.update()
        decay = min(0.5, (1 + n) / (START + n)) if n else 0.0
        for name, tensor in model.state_dict().items():
            old = expected.get(name, tensor)
            expected[name] = tensor.clone() if name.endswith("tracked") else decay * old + (1 - decay) * tensor
    measured = average.measured(model).state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(measured[name], tensor, msg=name)


def test_the_average_of_a_few_steps_does_not_hold_the_first_weights() -> None:
    """With 0.999 alone, 20 steps would leave 98% of them."""
    model = nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, 0.999)
    for value in [100.0] + [1.0] * 30:
        nn.init.constant_(model.weight, value)
        average.update()
    assert float(next(average.measured(model).parameters())) == pytest.approx(1, abs=0.01)


def test_the_average_is_validated_and_the_model_stays_what_it_is(make_trainer: MakeTrainer) -> None:
    trainer = with_all(make_trainer(total=2))
    averaged = list(trainer.epochs())
    plain = with_all(make_trainer(total=2), decay=None)
    for one, other in zip(averaged, plain.epochs(), strict=True):
        assert one.train_loss == other.train_loss, "the average changed the training"
        assert one.val_loss != other.val_loss, "the average was not validated"
    assert plain.measured is plain.model and type(plain.average) is NoAverage
    state = trainer.state_dict()
    assert any(not torch.equal(state["model"][key], value) for key, value in state["average"]["model"].items())

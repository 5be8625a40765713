"""Parameter groups, the L2 term and the schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from cifar.models.resnet import BottleneckResNet
from cifar.training import optim, schedulers
from cifar.training.step import EagerStep, autocast

L2 = 0.1


def model_of(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return BottleneckResNet([1], width=2, num_classes=3).to(dtype)


def batch_of(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 8, 8, dtype=dtype, generator=generator), torch.arange(6) % 3


def sgd(model: nn.Module, weight_decay: float, norms_and_biases: bool) -> Optimizer:
    groups = optim.parameter_groups(model, weight_decay, norms_and_biases)
    return SGD(groups, lr=0.05, momentum=0.9, nesterov=True)


@pytest.mark.parametrize("norms_and_biases", [True, False])
def test_l2_in_the_loss_is_sgds_weight_decay(norms_and_biases: bool) -> None:
    images, labels = batch_of(torch.float64)
    by_loss, by_decay, without = (model_of(torch.float64) for _ in range(3))
    optimizers = [sgd(by_loss, 0.0, norms_and_biases), sgd(by_decay, L2, norms_and_biases), sgd(without, 0.0, True)]
    decayed = optim.decayed_parameters(by_loss, norms_and_biases)
    for _ in range(5):
        for model, optimizer in zip((by_loss, by_decay, without), optimizers, strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            (loss + (optim.l2_term(decayed, L2) if model is by_loss else 0)).backward()
            optimizer.step()
    for a, b in zip(by_loss.parameters(), by_decay.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(by_loss.conv1.weight, without.conv1.weight, rtol=1e-3)


@pytest.mark.parametrize("norms_and_biases", [True, False])
def test_the_steps_l2_is_sgds_weight_decay(norms_and_biases: bool) -> None:
    images, labels = batch_of(torch.float32)
    models = []
    for l2, weight_decay in ((L2, 0.0), (0.0, L2)):
        model = model_of(torch.float32)
        optimizer = sgd(model, weight_decay, norms_and_biases)
        decayed = optim.decayed_parameters(model, norms_and_biases)
        step = EagerStep(model, decayed, l2, autocast(torch.device("cpu"), torch.float32))
        for _ in range(3):
            step(images, labels)
            optimizer.step()
        models.append(model)
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_term_is_half_lambda_times_the_squared_norm() -> None:
    parameters = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    assert float(optim.l2_term(parameters, 0.5)) == pytest.approx(0.25 * 14)
    assert optim.l2_term(parameters, 0.0) == 0


def test_norms_and_biases_go_to_a_group_without_decay() -> None:
    model = model_of(torch.float32)
    decay, rest = optim.parameter_groups(model, L2, norms_and_biases=False)
    assert (decay["weight_decay"], rest["weight_decay"]) == (L2, 0.0)
    assert all(p.ndim >= 2 for p in decay["params"]) and all(p.ndim < 2 for p in rest["params"])
    assert {id(p) for p in (*decay["params"], *rest["params"])} == {id(p) for p in model.parameters()}
    assert len(decay["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_one_group_holds_all_where_all_decay() -> None:
    model = model_of(torch.float32)
    (group,) = optim.parameter_groups(model, L2, norms_and_biases=True)
    assert len(group["params"]) == len(list(model.parameters())) and group["weight_decay"] == L2


def test_frozen_parameters_are_in_no_group() -> None:
    model = model_of(torch.float32)
    model.conv1.weight.requires_grad_(False)
    for norms_and_biases in (True, False):
        groups = optim.parameter_groups(model, L2, norms_and_biases)
        assert all(p is not model.conv1.weight for group in groups for p in group["params"])


def rates(schedule: Callable[..., Any], accuracies: list[float], steps: int = 5, **settings: Any) -> list[float]:
    """The lr of every step of len(accuracies) epochs of `steps` steps, and the one after them; from lr 0.4."""
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.4, momentum=0.9)
    scheduler = schedule(optimizer, steps * len(accuracies), **settings)
    seen = []
    for accuracy in accuracies:
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        scheduler.epoch(accuracy)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_plateau_reduces_after_more_than_patience_epochs_without_a_better_accuracy() -> None:
    seen = rates(schedulers.plateau, [0.5, 0.6, 0.6, 0.5, 0.4, 0.3], steps=1, patience=2, factor=0.1)
    assert seen == pytest.approx([0.4] * 5 + [0.04, 0.04])


def test_plateau_with_patience_0_reduces_after_the_first_bad_epoch() -> None:
    assert rates(schedulers.plateau, [0.5, 0.4], steps=1, patience=0, factor=0.5) == pytest.approx([0.4, 0.4, 0.2])


def test_plateau_keeps_the_rate_while_the_accuracy_rises() -> None:
    assert set(rates(schedulers.plateau, [0.1 * k for k in range(1, 9)], patience=0, factor=0.1)) == {0.4}


def test_cosine_falls_from_lr_to_zero() -> None:
    seen = rates(schedulers.cosine, [0.0] * 4)
    expected = [0.2 * (1 + torch.cos(torch.tensor(torch.pi * k / 20)).item()) for k in range(21)]
    assert seen == pytest.approx(expected, abs=1e-6)
    assert seen[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("warmup", [0.3, 0.5])
def test_onecycle_peaks_at_the_optimizers_lr(warmup: float) -> None:
    seen = rates(schedulers.onecycle, [0.0] * 4, warmup=warmup)
    top = max(range(len(seen)), key=seen.__getitem__)
    assert seen[top] == pytest.approx(0.4, rel=0.02)
    assert top == pytest.approx(warmup * 20, abs=1)
    assert seen[:top] == sorted(seen[:top]) and seen[top:] == sorted(seen[top:], reverse=True)
    assert seen[0] < 0.1 and seen[-1] < 0.001


def test_constant_stays() -> None:
    assert set(rates(schedulers.constant, [0.1, 0.1, 0.1, 0.1, 0.1])) == {0.4}


@pytest.mark.parametrize(
    "schedule, settings",
    [
        (schedulers.plateau, {"patience": 1, "factor": 0.1}),
        (schedulers.cosine, {}),
        (schedulers.onecycle, {"warmup": 0.3}),
        (schedulers.constant, {}),
    ],
)
def test_every_group_keeps_its_decay_and_has_the_same_rate(schedule: Callable[..., Any], settings: Any) -> None:
    optimizer = sgd(model_of(torch.float32), L2, norms_and_biases=False)
    scheduler = schedule(optimizer, 6, **settings)
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        scheduler.epoch(0.5)
    first, second = optimizer.param_groups
    assert first["lr"] == second["lr"]
    assert (first["weight_decay"], second["weight_decay"]) == (L2, 0.0)

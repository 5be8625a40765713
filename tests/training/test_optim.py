"""Optimizers, parameter groups and the L2 term."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from cifar.models.resnet import BottleneckResNet
from cifar.options.config import Config
from cifar.training import optim
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


SETTINGS = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": L2}


def test_an_optimizer_has_its_settings_and_its_extra_arguments() -> None:
    groups = optim.parameter_groups(model_of(torch.float32), L2, norms_and_biases=False)
    optimizer = optim.build_optimizer(SETTINGS | {"fused": True}, groups)
    assert type(optimizer) is SGD
    assert [group["weight_decay"] for group in optimizer.param_groups] == [L2, 0.0]
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["nesterov"], group["fused"]) == (0.1, 0.9, True, True)


@pytest.mark.parametrize("name", ["adagrad", "adam", "adamw", "nadam", "radam", "rmsprop", "sgd"])
def test_every_optimizer_takes_a_step(name: str, settings: Callable[..., Config]) -> None:
    config = settings(f"optimizer={name}")
    model = model_of(torch.float32)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    groups = optim.parameter_groups(model, L2, norms_and_biases=True)
    optimizer = optim.build_optimizer(config.optimizer.arguments(), groups)
    assert type(optimizer).__name__.lower() == name
    assert optimizer.param_groups[0].get("fused") == config.optimizer.extra.get("fused")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert not any(map(torch.equal, before, model.parameters()))

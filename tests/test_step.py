"""One step: gradients of the loss, and what it returns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar.step import EagerStep, autocast

CPU = torch.device("cpu")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(8, 3, 2, 2), torch.arange(8) % 5


def step_of(model: nn.Module, l2: float = 0.0, dtype: torch.dtype = torch.float32) -> EagerStep:
    return EagerStep(model, list(model.parameters()), l2, autocast(CPU, dtype))


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_gradients_are_those_of_cross_entropy_plus_l2(
    l2: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    step_of(model, l2)(*batch)
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    for gradient, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, p.grad + l2 * p)


def test_gradients_do_not_add_up(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    step = step_of(model)
    step(*batch)
    first = [p.grad.clone() for p in model.parameters()]
    step(*batch)
    assert all(torch.equal(a, p.grad) for a, p in zip(first, model.parameters(), strict=True))


def test_it_returns_the_cross_entropy_without_l2_and_the_right_predictions(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    loss, right = step_of(model, l2=10.0)(*batch)
    logits = model(batch[0]).detach()
    assert float(loss) == pytest.approx(float(F.cross_entropy(logits, batch[1])), rel=1e-6)
    assert int(right) == int((logits.argmax(1) == batch[1]).sum())
    assert not loss.requires_grad and loss.shape == right.shape == ()


def test_bf16_is_for_the_forward_pass_only(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss, _ = step_of(model, dtype=torch.bfloat16)(*batch)
    assert (seen, loss.dtype) == ([torch.bfloat16], torch.float32)
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    step_of(model)(*batch)
    assert seen[1] == torch.float32

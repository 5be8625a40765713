"""What a network cannot be trained on is found before training, and nothing is changed by looking for it."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifar.metadata import count_flops
from cifar.models.dry_run import DryRun
from cifar.options.option import ConfigError

SHAPE = (3, 8, 8)


def check(model: nn.Module, rows: int = 20, batch_size: int = 8, classes: int = 3) -> None:
    DryRun(model, "model", SHAPE, classes, rows, batch_size).check()


def network(*layers: nn.Module, width: int = 4, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 8), *layers, nn.Flatten(), nn.Linear(width, classes))


class Branching(nn.Module):
    """Its forward depends on values, so it cannot run without memory."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(192, classes)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        if flat.sum().item() < 0:
            flat = -flat
        output: Tensor = self.layer(flat)
        return output


class Masked(Branching):
    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        flat[flat > 0.5] = 0
        output: Tensor = self.layer(flat + torch.from_numpy(flat.detach().numpy()))
        return output


class WithPlainTensor(Branching):
    """A tensor that is no buffer stays where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(1, 192)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layer(images.flatten(1) * self.scale.clone().add_(0))
        return output


class Uncopyable(Branching):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = (number for number in range(3))


@pytest.mark.parametrize("make", [network, Branching, Masked, WithPlainTensor, Uncopyable])
def test_a_network_that_can_be_trained_passes(make: Callable[[], nn.Module]) -> None:
    check(make())


@pytest.mark.parametrize("make", [network, Branching, Masked, WithPlainTensor])
def test_flops_are_counted_where_the_forward_depends_on_values(make: Callable[[], nn.Module]) -> None:
    assert count_flops(make(), SHAPE) > 0


class Tuple(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(images), images


class OnlyInTraining(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] if self.training else images


@pytest.mark.parametrize(
    "model, message",
    [
        (nn.Conv2d(3, 3, 9), r"cannot train on a batch \(8, 3, 8, 8\): .*[Kk]ernel size"),
        (network(classes=4), r"it gives a tensor \(8, 4\), not \(8, 3\)"),
        (nn.Conv2d(3, 3, 8), r"it gives a tensor \(8, 3, 1, 1\), not \(8, 3\)"),
        (nn.Flatten(0), r"it gives a tensor \(1536,\)|it gives a tensor \(384,\)"),
        (Tuple(network()), "it gives a tuple, not a tensor"),
        (Branching(classes=5), r"it gives a tensor \(2, 5\), not \(2, 3\)"),
        (OnlyInTraining(), r"cannot be evaluated on a batch \(8, 3, 8, 8\): it gives a tensor"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 3)), r"(a|mat1) and (b|mat2)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_network_that_does_not_fit_is_named_with_what_is_allowed(model: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model: .*{message}.*allowed: a network that gives a tensor \(8, 3\)"):
        check(model)


@pytest.mark.parametrize(
    "rows, batch_size, last, advice",
    [(17, 8, 1, 7), (9, 8, 1, 7), (4, 3, 1, 2), (5, 1, 1, 3), (3, 2, 1, 3), (1, 8, 1, None)],
)
def test_a_last_batch_that_batch_norm_cannot_take_is_named_with_a_batch_size_that_fits(
    rows: int, batch_size: int, last: int, advice: int | None
) -> None:
    normalised = network(nn.BatchNorm2d(4))
    with pytest.raises(
        ConfigError, match=rf"^batch_size={batch_size}: .*has {last} of {rows} .*Expected more than 1"
    ) as caught:
        check(normalised, rows, batch_size)
    if advice is None:
        assert ", as batch_size" not in str(caught.value)
    else:
        assert f", as batch_size={advice};" in str(caught.value)
        check(normalised, rows, advice)
    check(network(), rows, batch_size)


@pytest.mark.parametrize("rows, batch_size", [(16, 8), (18, 8), (7, 8), (2, 2), (9, 3)])
def test_last_batches_of_more_than_one_image_pass(rows: int, batch_size: int) -> None:
    check(network(nn.BatchNorm2d(4)), rows, batch_size)


class Counting(nn.Module):
    """Draws from every generator and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network(nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        random.random()
        np.random.rand()
        torch.rand(1)
        output: Tensor = self.model(images) + float(images.sum())  # not without memory
        return output


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_changed(fails: bool) -> None:
    model = Counting().eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    if fails:
        with pytest.raises(ConfigError):
            check(model, rows=9)
    else:
        check(model)
        count_flops(model, SHAPE)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert (model.calls, model.training) == (0, False)
    assert all(parameter.grad is None and parameter.device.type == "cpu" for parameter in model.parameters())

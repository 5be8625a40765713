"""Depthwise convolutions in fp32, while a network trains in bf16."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from cifar.compose import composed
from cifar.experiment import load_splits
from cifar.models.depthwise import compute_in_fp32
from cifar.resources import Resources
from cifar.tasks import build_task


class Padded(nn.Conv2d):
    """A convolution of others, with a forward of its class."""

    def forward(self, images: Tensor, scale: float = 1.0, *, by: int = 1) -> Tensor:
        return super().forward(scale * nn.functional.pad(images, (by, by, by, by)))


def outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        values: list[Tensor] = [layer(images) for layer in model.children()]
    return values


def test_only_depthwise_convolutions_and_only_with_gradients() -> None:
    model = nn.ModuleList([nn.Conv2d(8, 8, 3, groups=8), Padded(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=4)])
    plain, images = copy.deepcopy(model), torch.randn(2, 8, 9, 9)
    compute_in_fp32(model)
    depthwise, padded, grouped = outputs(model, images.bfloat16())
    assert (depthwise.dtype, padded.dtype, grouped.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert padded.shape == (2, 8, 9, 9)
    assert torch.equal(depthwise, plain[0](images.bfloat16().float()))
    assert torch.equal(model[1](images, 2.0, by=2), plain[1](images, 2.0, by=2))
    model.requires_grad_(False)
    assert {value.dtype for value in outputs(model, images)} == {torch.bfloat16}, "no gradient is computed"
    model.requires_grad_(True)
    with torch.no_grad():
        assert {value.dtype for value in outputs(model, images)} == {torch.bfloat16}


def test_a_network_of_half_the_precision_stays_one() -> None:
    model = nn.Conv2d(8, 8, 3, groups=8).bfloat16()
    compute_in_fp32(model)
    assert model(torch.randn(2, 8, 9, 9)).dtype == torch.bfloat16


def test_weights_gradients_and_copies_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    model, images = mobilenet_v2(num_classes=3).eval(), torch.randn(4, 3, 32, 32)
    plain = copy.deepcopy(model)
    compute_in_fp32(model)
    copied = copy.deepcopy(model)
    assert list(copied.state_dict()) == list(plain.state_dict())
    for network in (plain, model, copied):
        network(images).square().sum().backward()
    for one, two, three in zip(plain.parameters(), model.parameters(), copied.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None and three.grad is not None
        assert torch.equal(one.grad, two.grad) and torch.equal(one.grad, three.grad)


def test_gradients_in_bf16_are_near_those_in_fp32() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, 2, 2, groups=8), nn.Conv2d(8, 8, 1))
    plain, images = copy.deepcopy(model), torch.randn(4, 3, 16, 16)
    compute_in_fp32(model)
    plain(images).square().mean().backward()
    with torch.autocast("cpu", torch.bfloat16):
        model(images).float().square().mean().backward()
    for one, two in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=0.05, atol=0.005)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_backbone_that_is_fine_tuned_in_bf16_has_them(precision: str) -> None:
    settings = (
        "transfer=finetune",
        "transfer.backbone=mobilenet_v2",
        "transfer.weights=random",
        "transfer.image_size=32",
    )
    config = composed(*settings, "data=digits", "data.limit=100", "device=cpu", f"precision={precision}")
    task = build_task(config, load_splits(config), torch.device("cpu"), Resources())
    depthwise = [m for m in task.model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 17
    assert {type(module) is nn.Conv2d for module in depthwise} == {precision == "fp32"}

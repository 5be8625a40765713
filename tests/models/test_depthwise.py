"""Depthwise convolutions in fp32, while a network trains in bf16."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from cifar.models.depthwise import in_fp32


class Padded(nn.Conv2d):
    """A convolution of others, with a forward of its class."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(images, (1, 1, 1, 1)))


def outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        values: list[Tensor] = [layer(images) for layer in model.children()]
    return values


def test_only_depthwise_convolutions_and_only_with_gradients() -> None:
    model = nn.ModuleList([nn.Conv2d(8, 8, 3, groups=8), Padded(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=4)])
    plain, images = copy.deepcopy(model), torch.randn(2, 8, 9, 9)
    in_fp32(model)
    depthwise, padded, grouped = outputs(model, images.bfloat16())
    assert (depthwise.dtype, padded.dtype, grouped.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert padded.shape == (2, 8, 9, 9)
    assert torch.equal(depthwise, plain[0](images.bfloat16().float()))
    with torch.no_grad():
        assert {value.dtype for value in outputs(model, images)} == {torch.bfloat16}


def test_weights_gradients_and_copies_are_those_of_the_model() -> None:
    torch.manual_seed(0)
    model, images = mobilenet_v2(num_classes=3).eval(), torch.randn(4, 3, 32, 32)
    plain = copy.deepcopy(model)
    in_fp32(model)
    copied = copy.deepcopy(model)
    assert list(copied.state_dict()) == list(plain.state_dict())
    for network in (plain, model, copied):
        network(images).square().sum().backward()
    for one, two, three in zip(plain.parameters(), model.parameters(), copied.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad) and torch.equal(one.grad, three.grad)
    copied.features[0][0].weight.data.zero_()
    assert torch.equal(model(images), plain(images)), "a copy has its weights alone"

"""ResNet-9: its shapes at every size, its arithmetic, its gradient, and where its first convolution has a stride."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifar.models.dry_run import DryRun
from cifar.models.resnet9 import LOGIT_SCALE, ConvNormReLU, ResNet9
from cifar.options.check import check


def test_it_is_the_network_of_dawnbench() -> None:
    with torch.device("meta"):
        model = ResNet9()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    shapes = [(conv.in_channels, conv.out_channels) for conv in convolutions]
    assert shapes == [(3, 64), (64, 128), *2 * [(128, 128)], (128, 256), (256, 512), *2 * [(512, 512)]]
    assert all(conv.kernel_size == (3, 3) and conv.bias is None for conv in convolutions)
    assert sum(p.numel() for p in model.parameters()) == 6_573_130


def test_the_output_is_that_of_its_layers() -> None:
    torch.manual_seed(0)
    model = ResNet9(width=2, num_classes=3).eval()
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and value.dim() == 1:
            state[name].copy_(torch.rand_like(value) + 0.1)  # no norm is the identity

    def layer(name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(F.conv2d(x, state[f"{name}.0.weight"], padding=1), mean, variance, weight, bias))

    images = torch.randn(2, 3, 16, 16)
    x = F.max_pool2d(layer("layer1.0", layer("stem", images)), 2)
    x = x + layer("layer1.1.conv2", layer("layer1.1.conv1", x))
    x = F.max_pool2d(layer("layer2", x), 2)
    x = F.max_pool2d(layer("layer3.0", x), 2)
    x = x + layer("layer3.1.conv2", layer("layer3.1.conv1", x))
    expected = LOGIT_SCALE * F.linear(x.flatten(2).max(2).values, state["fc.weight"], state["fc.bias"])
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize(
    ("size", "classes"), [*((size, 2) for size in (1, 4, 8, 28, 32, 33, 48, 64, 97, 224)), (32, 1), (33, 100)]
)
def test_any_size_and_number_of_classes(size: int, classes: int) -> None:
    model = ResNet9(width=2, num_classes=classes)
    DryRun(model, "model", (3, size, size), classes, rows=20, batch_size=8).check()
    assert model(torch.zeros(2, 3, size, size)).shape == (2, classes)


@pytest.mark.parametrize(
    "size, stride, entering",
    [(8, 1, 8), (32, 1, 32), (48, 1, 48), (49, 2, 25), (64, 2, 32), (96, 2, 48), (128, 4, 32), (224, 8, 28)],
)
def test_large_images_are_made_small_by_the_first_convolution(
    size: int, stride: int, entering: int, compose: Any
) -> None:
    settings: Any = check(compose("model=resnet9", "model.width=2")).model.at(size)
    assert settings.stride == stride
    model = ResNet9(width=2, stride=settings.stride)
    assert model.stem(torch.zeros(1, 3, size, size)).shape == (1, 2, entering, entering)


def test_a_stride_is_kept_where_it_is_set(compose: Any) -> None:
    settings: Any = check(compose("model=resnet9", "model.stride=1")).model.at(224)
    assert settings.stride == 1


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8])
def test_every_pixel_is_read(stride: int) -> None:
    torch.manual_seed(0)
    convolution = ConvNormReLU(3, 8, stride)[0]
    images = torch.randn(1, 3, 24, 24, requires_grad=True)
    convolution(images).square().sum().backward()
    assert images.grad is not None and images.grad.ne(0).all()


def test_channels_last_and_bfloat16_give_nearly_the_same() -> None:
    torch.manual_seed(0)
    model, images = ResNet9(width=8), torch.randn(4, 3, 32, 32)
    expected = model(images)
    torch.testing.assert_close(
        model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last)),
        expected,
        rtol=1e-3,
        atol=1e-4,
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert F.cosine_similarity(model(images).float(), expected).min() > 0.98


def test_convolutions_start_with_the_spread_that_relu_needs() -> None:
    torch.manual_seed(0)
    for module in ResNet9(width=16).modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.15)

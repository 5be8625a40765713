"""The network is torchvision's, bit for bit, with the CIFAR stem."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck as TorchvisionBottleneck
from torchvision.models.resnet import ResNet, resnet50

from cifar.models.resnet import Bottleneck, BottleneckResNet


def torchvision_resnet(depths: list[int], width: int, classes: int = 10) -> ResNet:
    """torchvision's ResNet(Bottleneck, depths) with the CIFAR stem; another width by its own _make_layer."""
    model = ResNet(TorchvisionBottleneck, depths, num_classes=classes)
    model.conv1, model.maxpool = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.Identity()
    if width != 64:
        model.inplanes, model.bn1 = width, nn.BatchNorm2d(width)
        for stage, depth in enumerate(depths):
            layer = model._make_layer(TorchvisionBottleneck, width << stage, depth, stride=2 if stage else 1)
            setattr(model, f"layer{stage + 1}", layer)
        model.fc = nn.Linear(model.inplanes, classes)
    return model


def scrambled(model: nn.Module) -> dict[str, Tensor]:
    """A state dict of the model's shapes in which no parameter or buffer has a special value."""
    torch.manual_seed(1)
    state = model.state_dict()
    return {k: torch.rand_like(v) * 0.2 + 0.05 if v.is_floating_point() else v for k, v in state.items()}


CASES = [([1, 1, 1, 1], 64), ([2, 2, 2, 2], 64), ([1, 2, 1, 1], 8)]


@pytest.mark.parametrize("depths, width", CASES)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_output_is_torchvisions_bit_for_bit(depths: list[int], width: int, training: bool) -> None:
    theirs, ours = torchvision_resnet(depths, width), BottleneckResNet(depths, width)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected, output = theirs.train(training)(images), ours.train(training)(images)
    assert output.shape == (2, 10)
    assert torch.equal(output, expected)
    expected.square().sum().backward()
    output.square().sum().backward()
    gradients = dict(theirs.named_parameters())
    assert all(torch.equal(p.grad, gradients[name].grad) for name, p in ours.named_parameters())
    buffers = dict(theirs.named_buffers())
    assert all(torch.equal(b, buffers[name]) for name, b in ours.named_buffers())


@pytest.mark.parametrize("depths, width", CASES)
def test_weights_fit_both_ways(depths: list[int], width: int) -> None:
    theirs, ours = torchvision_resnet(depths, width), BottleneckResNet(depths, width)
    ours.load_state_dict(scrambled(theirs), strict=True)
    theirs.load_state_dict(scrambled(ours), strict=True)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize(
    "depths, count", [([1, 1, 1, 1], 8_028_746), ([2, 2, 2, 2], 13_958_986), ([3, 4, 6, 3], 23_520_842)]
)
def test_parameter_counts(depths: list[int], count: int) -> None:
    with torch.device("meta"):
        for model in (BottleneckResNet(depths), torchvision_resnet(depths, 64)):
            assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("inputs, width, stride", [(16, 4, 1), (8, 4, 1), (16, 4, 2)])
def test_block_is_three_convolutions_each_with_norm_and_relu_and_the_last_relu_after_the_addition(
    inputs: int, width: int, stride: int
) -> None:
    block = Bottleneck(inputs, width, stride).eval()
    block.load_state_dict(scrambled(block))
    x = torch.randn(2, inputs, 8, 8)

    def conv_norm(y: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, kernel: int, stride: int) -> Tensor:
        assert (conv.kernel_size, conv.bias) == ((kernel, kernel), None)
        y = F.conv2d(y, conv.weight, stride=stride, padding=kernel // 2)
        return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    y = F.relu(conv_norm(x, block.conv1, block.bn1, 1, 1))
    y = F.relu(conv_norm(y, block.conv2, block.bn2, 3, stride))
    y = conv_norm(y, block.conv3, block.bn3, 1, 1)
    same = inputs == 4 * width and stride == 1
    assert (block.downsample is None) == same
    shortcut = x if block.downsample is None else conv_norm(x, *block.downsample, 1, stride)
    torch.testing.assert_close(block(x.clone()), F.relu(y + shortcut))


def test_stages_halve_the_resolution_but_for_the_first() -> None:
    model = BottleneckResNet([1, 1, 1], width=4)
    x = model.relu(model.bn1(model.conv1(torch.randn(1, 3, 32, 32))))
    assert x.shape == (1, 4, 32, 32)
    sizes = []
    for name in ("layer1", "layer2", "layer3"):
        x = model.get_submodule(name)(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_depths_width_and_classes_are_free() -> None:
    model = BottleneckResNet([2], width=3, num_classes=7, in_channels=1)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_convolutions_start_with_the_spread_that_relu_needs() -> None:
    torch.manual_seed(0)
    for module in BottleneckResNet([1, 1], width=32).modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)


def test_the_imagenet_stem_makes_it_torchvisions_resnet() -> None:
    ours = BottleneckResNet([3, 4, 6, 3], num_classes=5, stem="imagenet").eval()
    theirs = resnet50(num_classes=5).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))

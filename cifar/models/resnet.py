"""Bottleneck residual networks for small images (He et al. 2016, Deep Residual Learning for Image Recognition)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

EXPANSION = 4
STEMS = {"cifar": (3, 1, False), "imagenet": (7, 2, True)}
"""Of the first convolution: kernel, stride, whether pooling follows."""


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """1x1 reduce, 3x3, 1x1 restore, each with batch norm and ReLU; the last ReLU comes after adding the input.

    (B, inputs, H, W) -> (B, 4 width, H / stride, W / stride). The stride is on the 3x3 convolution, as in torchvision.
    Where shapes differ, a strided 1x1 convolution with batch norm projects the input.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(y)
        return output


class BottleneckResNet(nn.Module):
    """images (B, in_channels, H, W) -> logits (B, num_classes).

    The stem (cifar: 3x3 convolution, no pooling; imagenet: 7x7 and pooling, each with stride 2), then len(depths)
    stages of that many bottlenecks; stage i has 3x3 convolutions of width * 2**i channels and, but for the first,
    halves the resolution. Names of modules and initialisation are those of torchvision's ResNet, so that weights fit
    both.
    """

    def __init__(
        self,
        depths: Sequence[int],
        width: int = 64,
        num_classes: int = 10,
        in_channels: int = 3,
        stem: str = "cifar",
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"stem={stem}: allowed: {', '.join(STEMS)}")
        kernel, stride, pool = STEMS[stem]
        self.conv1 = _conv(in_channels, width, kernel, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()
        self.stages = [f"layer{stage + 1}" for stage in range(len(depths))]
        channels = width
        for stage, depth in enumerate(depths):
            stage_width = width * 2**stage
            blocks = []
            for block in range(depth):
                halves = stage > 0 and block == 0
                blocks.append(Bottleneck(channels, stage_width, stride=2 if halves else 1))
                channels = EXPANSION * stage_width
            self.add_module(self.stages[stage], nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits

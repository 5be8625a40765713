"""Bottleneck residual networks for small images (He et al. 2016, Deep Residual Learning for Image Recognition)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

EXPANSION = 4


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
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        same = inputs == outputs and stride == 1
        self.downsample = None if same else nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        output: Tensor = self.relu(y)
        return output


class BottleneckResNet(nn.Module):
    """images (B, in_channels, H, W) -> logits (B, num_classes).

    The CIFAR stem (3x3 convolution, no pooling), then len(depths) stages of that many bottlenecks; stage i has 3x3
    convolutions of width * 2**i channels and, but for the first, halves the resolution. Names of modules and
    initialisation are those of torchvision's ResNet, so that weights fit both.
    """

    def __init__(self, depths: Sequence[int], width: int = 64, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, width, 3), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        channels = width
        self.stages = [f"layer{stage + 1}" for stage in range(len(depths))]
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(channels, width << stage, stride=2 if stage and not block else 1))
                channels = EXPANSION * (width << stage)
            self.add_module(self.stages[stage], nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits

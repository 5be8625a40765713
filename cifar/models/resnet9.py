"""ResNet-9: shallow, wide and fast to train (Page 2018, How to train your ResNet; first of DAWNBench on CIFAR-10)."""

from __future__ import annotations

from torch import Tensor, nn

LOGIT_SCALE = 0.125
"""Page's factor: maxima of 512 channels would begin with logits that are too sure."""


class ConvNormReLU(nn.Sequential):
    """(B, inputs, H, W) -> (B, outputs, H', W'): 3x3 convolution, batch norm, ReLU and, with `pool`, 2x2 maxima.

    A larger stride has a larger kernel, so that every pixel is read. Pooling rounds up, so that one pixel stays one.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, pool: bool = False) -> None:
        kernel = max(3, 2 * stride - 1)
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        pooling = [nn.MaxPool2d(2, ceil_mode=True)] if pool else []
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), *pooling)


class Residual(nn.Module):
    """x + two convolutions of x, each with batch norm and ReLU; the shape stays."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNormReLU(width, width)
        self.conv2 = ConvNormReLU(width, width)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.conv2(self.conv1(x))
        return total


class ResNet9(nn.Module):
    """images (B, in_channels, H, W) -> logits (B, num_classes).

    A convolution of `width` channels and of `stride`, then three that double the channels and halve the resolution; a
    residual follows the first and the last of these. The head is linear, on the maximum of each channel.
    """

    def __init__(self, width: int = 64, num_classes: int = 10, in_channels: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.stem = ConvNormReLU(in_channels, width, stride)
        self.layer1 = nn.Sequential(ConvNormReLU(width, 2 * width, pool=True), Residual(2 * width))
        self.layer2 = ConvNormReLU(2 * width, 4 * width, pool=True)
        self.layer3 = nn.Sequential(ConvNormReLU(4 * width, 8 * width, pool=True), Residual(8 * width))
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        logits: Tensor = self.fc(x.amax((2, 3))) * LOGIT_SCALE
        return logits

"""The loop that a user would otherwise write: the yardstick for speed and accuracy.

Plain PyTorch in the manner of the popular CIFAR-10 repositories: PIL transforms in a DataLoader, an eager fp32 step,
`loss.item()` at every step; same recipe as the project's default.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.resnet import Bottleneck, ResNet

from cifar.data.images import Images


class PIL(Dataset):
    """Images transformed one at a time, as torchvision's CIFAR10 does it."""

    def __init__(self, images: Images, transform: T.Compose) -> None:
        self.pixels = np.ascontiguousarray(images.images[:].permute(0, 2, 3, 1).numpy())
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def transforms(mean: Sequence[float], std: Sequence[float]) -> tuple[T.Compose, T.Compose]:
    """For training and for validation."""
    end = [T.ToTensor(), T.Normalize(mean, std)]
    return T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), *end]), T.Compose(end)


def resnet(depths: list[int], width: int, classes: int) -> nn.Module:
    """torchvision's bottleneck ResNet with the CIFAR stem; `width` 64, or a narrower 3x3 convolution in each block."""
    net = ResNet(Bottleneck, depths, num_classes=classes, width_per_group=width)
    net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    net.maxpool = nn.Identity()
    return net


class PlainLoop:
    """Trains epoch by epoch; `amp` runs the forward pass in bf16."""

    def __init__(
        self,
        train: Images,
        val: Images,
        net: nn.Module,
        device: str,
        lr: float,
        seed: int = 0,
        workers: int = 2,
        amp: bool = False,
        batch_size: int = 32,
    ) -> None:
        torch.manual_seed(seed)
        augmented, plain = transforms((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        options: dict[str, Any] = {
            "num_workers": workers,
            "pin_memory": device != "cpu",
            "persistent_workers": workers > 0,
        }
        self.train = DataLoader(PIL(train, augmented), batch_size, shuffle=True, **options)
        self.val = DataLoader(PIL(val, plain), 256, **options)
        self.net = net.to(device)
        self.device = device
        self.amp = amp
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr, momentum=0.9, weight_decay=5e-4)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, mode="max", patience=2)
        self.loss = nn.CrossEntropyLoss()

    def epoch(self) -> tuple[float, float]:
        """Train and validate once: seconds and validation accuracy."""
        start = time.perf_counter()
        self._train()
        accuracy = self._validate()
        self.schedule.step(accuracy)
        return time.perf_counter() - start, accuracy

    def _train(self) -> float:
        self.net.train()
        total = 0.0
        for batch in self.train:
            images, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
            self.optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.amp):
                loss = self.loss(self.net(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total

    @torch.no_grad()
    def _validate(self) -> float:
        self.net.eval()
        right = 0
        for images, labels in self.val:
            predicted = self.net(images.to(self.device)).argmax(1)
            right += (predicted == labels.to(self.device)).sum().item()
        return right / len(self.val.dataset)  # type: ignore[arg-type]

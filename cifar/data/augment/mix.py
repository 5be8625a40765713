"""mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019), as torchvision has them: of images and their labels.

Each image is mixed with the one before it in its batch, the first with the last, each in another share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cifar.data.augment.erase import in_boxes


@dataclass(frozen=True)
class Mix:
    """The share of an image is drawn from Beta(a, a): a is `mixup` or `cutmix`, 0 where it is off.

    Where both are on, each image has one of them, by chance. `classes`: how many there are.
    """

    mixup: float
    cutmix: float
    classes: int

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """For each image its share and the box that is replaced (empty with mixup): float64 (N, 5)."""
        # PyTorch draws from no Beta distribution with a generator: NumPy does, with a seed from it.
        numpy = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        cuts = torch.rand(count, generator=generator) < (0.5 if self.mixup else 1.0)
        centres = torch.rand((2, count), generator=generator, dtype=torch.float64)
        mixed = torch.from_numpy(_beta(numpy, self.mixup, count))
        if not self.cutmix:
            return torch.cat([mixed.unsqueeze(1), torch.zeros(count, 4, dtype=torch.float64)], 1)
        shares = torch.where(cuts, torch.from_numpy(_beta(numpy, self.cutmix, count)), mixed)
        boxes = boxes_of(shares, centres, height, width) * cuts.unsqueeze(1)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        shares = torch.where(cuts, 1 - areas / (height * width), shares)
        return torch.cat([shares.unsqueeze(1), boxes], 1)

    def apply(self, images: Tensor, labels: Tensor, batch_size: int, draws: Tensor) -> tuple[Tensor, Tensor]:
        """images float32 (B, 3, H, W) and labels int64 (B,) of some batches; labels become float32 (B, classes)."""
        partners = _partners(len(images), batch_size).to(images.device, non_blocking=True)
        on_device = draws.to(images.device, non_blocking=True)
        shares, boxes = on_device[:, 0], on_device[:, 1:]
        targets = F.one_hot(labels, self.classes).float()
        others = images[partners]
        mixed = _weighted(images, others, shares)
        if self.cutmix:
            cuts = boxes[:, 2] > boxes[:, 0]  # where the box is empty the share is 1: all of the image
            inside = in_boxes(boxes, images.shape[2], images.shape[3])
            mixed = torch.where(cuts.view(-1, 1, 1, 1), torch.where(inside, others, images), mixed)
        return mixed, _weighted(targets, targets[partners], shares)


def boxes_of(shares: Tensor, centres: Tensor, height: int, width: int) -> Tensor:
    """top, left, bottom, right of boxes of 1 - shares of an image, cut at its edges: float64 (N, 4).

    `centres` (2, N), in [0, 1): down and across.
    """
    half = 0.5 * (1 - shares).sqrt()
    row, column = (centres[0] * height).floor(), (centres[1] * width).floor()
    high, wide = (half * height).floor(), (half * width).floor()
    top, bottom = (row - high).clamp_min(0), (row + high).clamp_max(height)
    left, right = (column - wide).clamp_min(0), (column + wide).clamp_max(width)
    return torch.stack([top, left, bottom, right], 1)


def _beta(numpy: np.random.Generator, a: float, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return numpy.beta(a, a, count) if a else np.ones(count)


def _partners(count: int, batch_size: int) -> Tensor:
    """The row before each, within its batch."""
    batches = torch.split(torch.arange(count), batch_size)
    return torch.cat([batch.roll(1) for batch in batches])


def _weighted(values: Tensor, others: Tensor, shares: Tensor) -> Tensor:
    shape = (-1, *[1] * (values.dim() - 1))
    return others * (1 - shares).float().view(shape) + values * shares.float().view(shape)

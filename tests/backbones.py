"""Small backbones, images and feature caches, and the overrides of a run with such a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cifar.data.images import Images, from_arrays
from cifar.models.feature_cache import FeatureCache
from cifar.models.pretrained import Backbone, load_backbone
from cifar.models.resnet import BottleneckResNet
from cifar.training.step import autocast

CPU = torch.device("cpu")
SMALL = "cifar.models.resnet.BottleneckResNet"
TRANSFER = (
    f"transfer.backbone._target_={SMALL}",
    "+transfer.backbone.depths=[1,1]",
    "+transfer.backbone.width=4",
    "transfer.weights=random",
    "transfer.image_size=32",
)


def small() -> nn.Module:
    return BottleneckResNet([1, 1], width=4)


def backbone(weights: str = "random", **options: Any) -> Backbone:
    return load_backbone(small, SMALL, {}, weights, **{"image_size": 16, **options})


def some_images(count: int = 64, seed: int = 0) -> Images:
    random = np.random.default_rng(seed)
    return from_arrays(random.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 4, tuple("abcd"))


def new_cache(folder: Path, batch_size: int = 32, precision: str = "torch.float32") -> FeatureCache:
    return FeatureCache(folder / "features", CPU, batch_size, precision, autocast(CPU, torch.float32))

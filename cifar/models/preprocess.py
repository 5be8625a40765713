"""What brings images to the size and the scale that a backbone was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from cifar.models.weights import torchvision_weights
from cifar.options.transfer import LITE_WEIGHTS


@dataclass(frozen=True)
class Preprocess:
    """images uint8 (B, 3, H, W) -> float32 (B, 3, crop, crop): shorter side to `resize`, centre crop, normalise."""

    resize: int = 256
    crop: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        pixels = self.resize_and_crop(images).to(torch.float32).div(255)
        # As torchvision's normalize(), which cannot be exported because it branches on the values of std.
        mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return pixels.sub(mean).div(std)

    def resize_and_crop(self, images: Tensor) -> Tensor:
        """(B, 3, crop, crop), in the type of `images`, not normalised."""
        resized = resize(images, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        cropped: Tensor = center_crop(resized, [self.crop])
        return cropped


def preprocess_of(network: str, weights: str, model: nn.Module, image_size: int | None) -> Preprocess:
    """What the weights were trained with; `image_size` replaces both sizes. `network`: its import path."""
    preprocess = _of_torchvision(network, weights) or _of_timm(model)
    if weights == LITE_WEIGHTS:  # (x - 127) / 128
        preprocess = replace(preprocess, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    if image_size is None:
        return preprocess
    return replace(preprocess, resize=image_size, crop=image_size)


def _of_torchvision(network: str, weights: str) -> Preprocess | None:
    """That of torchvision's weights of this name, else of its default weights; None for other networks."""
    known = torchvision_weights(network)
    if not known:
        return None
    transforms = known.get(weights, known["DEFAULT"]).transforms()
    return Preprocess(
        transforms.resize_size[0],
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation.value,
    )


def _of_timm(model: nn.Module) -> Preprocess:
    """That of timm's pretrained_cfg; ImageNet's where there is none."""
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    crop = int(config.get("input_size", (3, 224, 224))[-1])
    return Preprocess(
        round(crop / config.get("crop_pct", 0.875)),
        crop,
        tuple(config.get("mean", Preprocess.mean)),
        tuple(config.get("std", Preprocess.std)),
        config.get("interpolation", "bilinear"),
    )

"""Settings that a run decides when its images are known: model.width=auto.

What is decided is recorded in .hydra/config.yaml and result.json: a run that continues, or repeats a trial, has it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import OmegaConf

from cifar.options.config import Config
from cifar.options.model import AUTO
from cifar.options.resume import recorded_settings
from cifar.options.times import seconds_of
from cifar.training.device import dtype_of

WIDTH = "model.width"
WITHOUT_BF16 = 0.4
"""The speed of a core in fp32, as a share of that in bf16: 2.4 to 2.7 times as fast, where it has AVX512-bf16."""
CONFIG = "config.yaml"
"""The file of the settings in .hydra/."""


def decided(config: Config, images: int, image_size: int, device: torch.device) -> Config:
    """The settings with numbers in place of auto, for so many training images of this height and width.

    A run that is resumed keeps those of the run.
    """
    if getattr(config.model, "width", None) != AUTO:
        return config
    model = config.model.sized(image_size, _seconds_per_image(config, images, device))
    if config.resume is not None:
        recorded = recorded_settings(config, config.resume).get(WIDTH, AUTO)
        if recorded != AUTO:
            model = dataclasses.replace(model, width=recorded)  # type: ignore[call-arg]  # it has one, as seen above
    return dataclasses.replace(config, model=model)


def _seconds_per_image(config: Config, images: int, device: torch.device) -> float | None:
    """Seconds of one core with bf16 for each training image; infinite on a GPU, None where no time is set."""
    if config.time is None:
        return None
    if device.type == "cuda":
        return math.inf
    speed = 1.0 if dtype_of(config.precision, device) == torch.bfloat16 else WITHOUT_BF16
    return seconds_of(config.time) * torch.get_num_threads() * speed / images


def facts(typed: Config, config: Config) -> dict[str, Any]:
    """What result.json says of what was decided."""
    if typed is config:
        return {}
    return {"decided": {WIDTH: config.model.width}}  # type: ignore[attr-defined]  # as above


def as_decided(settings: Mapping[str, str], typed: Config, config: Config) -> dict[str, str]:
    """The files of .hydra/ with what was decided."""
    if typed is config or CONFIG not in settings:
        return dict(settings)
    recorded = OmegaConf.create(settings[CONFIG])
    for key, value in facts(typed, config)["decided"].items():
        OmegaConf.update(recorded, key, value)
    return {**settings, CONFIG: OmegaConf.to_yaml(recorded)}

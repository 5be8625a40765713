"""Settings that a run decides when its images are known: model.width=auto.

What is decided is recorded in .hydra/config.yaml and result.json: a run that continues, or repeats a trial, has it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
import yaml

from cifar.options.config import Config
from cifar.options.model import AUTO, WIDTH, ResNet9
from cifar.options.resume import recorded_settings
from cifar.options.times import seconds_of
from cifar.training.device import dtype_of

WITHOUT_BF16 = 0.4
"""The speed of a core in fp32, as a share of that in bf16: 2.4 to 2.7 times as fast, where it has AVX512-bf16."""
CONFIG = "config.yaml"
"""The file of the settings in .hydra/."""


def decided(config: Config, images: int, image_size: int, device: torch.device) -> Config:
    """The settings with a number in place of auto, for so many training images of this height and width.

    A run that is resumed, or begins with another one, keeps that one's.
    """
    model = config.model
    if not isinstance(model, ResNet9) or model.width != AUTO:
        return config
    width = model.at(image_size, _seconds_per_image(config, images, device)).width
    source = config.resume or config.from_run
    if source is not None:
        recorded = recorded_settings(config, source).get(WIDTH, AUTO)
        width = width if recorded == AUTO else recorded
    return dataclasses.replace(config, model=dataclasses.replace(model, width=width))


def _seconds_per_image(config: Config, images: int, device: torch.device) -> float | None:
    """Seconds of one core with bf16 for each training image; infinite on a GPU, None where no time is set."""
    if config.time is None:
        return None
    if device.type == "cuda":
        return math.inf
    speed = 1.0 if dtype_of(config.precision, device) == torch.bfloat16 else WITHOUT_BF16
    return seconds_of(config.time) * torch.get_num_threads() * speed / images


def facts(typed: Config, config: Config) -> dict[str, Any]:
    """What result.json says of what was decided; nothing where nothing was."""
    if typed is config or not isinstance(config.model, ResNet9):
        return {}
    return {"decided": {WIDTH: config.model.width}}


def as_decided(settings: Mapping[str, str], typed: Config, config: Config) -> dict[str, str]:
    """The files of .hydra/ with what was decided."""
    values = facts(typed, config).get("decided", {})
    if not values or CONFIG not in settings:
        return dict(settings)
    recorded = yaml.safe_load(settings[CONFIG])
    for key, value in values.items():
        group, name = key.split(".")
        recorded[group][name] = value
    return {**settings, CONFIG: yaml.safe_dump(recorded, sort_keys=False, allow_unicode=True)}

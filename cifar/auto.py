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
WIDTHS = 8, 64
"""The least and the greatest width for model.width=auto."""
WIDTH_OF_A_SECOND = 42
"""model.width=auto: so many times the cube root of the seconds of one core (bf16) for each image of 32 pixels.

An epoch takes about the square of the width, so eight times the time is twice the width and twice the epochs.
"""
CONFIG = "config.yaml"
"""The file of the settings in .hydra/."""


def decided(config: Config, images: int, image_size: int, device: torch.device) -> dict[str, Any]:
    """The settings that are auto, as numbers, for so many training images of this height and width.

    A run that is resumed, or begins with another one, keeps that one's.
    """
    model = config.model
    if not isinstance(model, ResNet9) or model.width != AUTO:
        return {}
    source = config.resume or config.from_run
    recorded = AUTO if source is None else recorded_settings(config, source).get(WIDTH, AUTO)
    if recorded != AUTO:
        return {WIDTH: recorded}
    fitted = model.at(image_size)
    assert fitted.stride is not None
    seconds = _seconds_per_image(config, images, device)
    of_32_pixels = (32 * fitted.stride / image_size) ** 2
    return {WIDTH: fitted.width if seconds is None else width_for(seconds * of_32_pixels)}


def width_for(seconds_per_image: float) -> int:
    """The width for model.width=auto, a multiple of 8; by the seconds of one core for each image of 32 pixels."""
    least, most = WIDTHS
    return round(min(max(WIDTH_OF_A_SECOND * math.pow(seconds_per_image, 1 / 3), least), most) / 8) * 8


def _seconds_per_image(config: Config, images: int, device: torch.device) -> float | None:
    """Seconds of one core with bf16 for each training image; infinite on a GPU, None where no time is set."""
    if config.time is None:
        return None
    if device.type == "cuda":
        return math.inf
    speed = 1.0 if dtype_of(config.precision, device) == torch.bfloat16 else WITHOUT_BF16
    return seconds_of(config.time) * torch.get_num_threads() * speed / images


def as_decided(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with what was decided."""
    model = config.model
    if not (values and isinstance(model, ResNet9)):
        return config
    return dataclasses.replace(config, model=dataclasses.replace(model, width=values[WIDTH]))


def files_as_decided(settings: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """The files of .hydra/ with what was decided."""
    if not values or CONFIG not in settings:
        return dict(settings)
    recorded = yaml.safe_load(settings[CONFIG])
    for key, value in values.items():
        group, name = key.split(".")
        recorded[group][name] = value
    return {**settings, CONFIG: yaml.safe_dump(recorded, sort_keys=False, allow_unicode=True)}

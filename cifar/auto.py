"""Settings that a run decides when its images are known: model.width, augment and optimizer.weight_decay=auto.

What is decided is recorded in .hydra/config.yaml and result.json: a run that continues, or repeats a trial, has it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import yaml

from cifar.options.config import Config
from cifar.options.left_open import AUTO, DECAY, POLICY, WIDTH
from cifar.options.model import USUAL_WIDTH, ResNet9
from cifar.options.optimizer import SGD, USUAL_DECAY
from cifar.options.option import groups
from cifar.options.resume import recorded_settings
from cifar.options.times import seconds_of
from cifar.options.transfer import Frozen
from cifar.training.device import dtype_of

WITHOUT_BF16 = 0.4
"""The speed of a core in fp32, as a share of that in bf16: 2.4 to 2.7 times as fast, where it has AVX512-bf16."""
WIDTHS = 8, 64
"""The least and the greatest width for model.width=auto."""
WIDTH_OF_A_SECOND = 42
"""model.width=auto: so many times the cube root of the seconds of one core (bf16) for each image of 32 pixels.

An epoch takes about the square of the width, so eight times the time is twice the width and twice the epochs.
"""
TRIVIAL, CROP_FLIP = "trivial", "crop_flip"
SECONDS_OF_TRIVIAL = 0.2
"""augment=auto: TrivialAugment from so many seconds of one core (bf16) for each image of 32 pixels."""
STEPS_OF_USUAL_DECAY = 250
"""optimizer.weight_decay=auto: the usual one up to so many steps an epoch, and with more it is smaller in proportion.

So weights forget in the same number of epochs, 1 / (lr * weight decay * steps), however many images there are (Wang and
Aitchison 2024, "How to set AdamW's weight decay as you scale model and dataset size").
"""
EPOCHS_OF_TRIVIAL = 150
"""augment=auto where no time is set: TrivialAugment from so many epochs."""
CONFIG = "config.yaml"
"""The file of the settings in .hydra/."""


def decided(config: Config, images: int, image_size: int, device: torch.device) -> dict[str, Any]:
    """The settings that are auto, as they are decided for so many training images of this height and width.

    A run that is resumed, or begins with another one, keeps that one's.
    """
    rules: dict[str, Callable[[Config, float | None], Any]] = {}
    if isinstance(config.model, ResNet9) and config.model.width == AUTO:
        rules[WIDTH] = _width
    if config.augment.policy == AUTO:
        rules[POLICY] = _policy
    if isinstance(config.optimizer, SGD) and config.optimizer.weight_decay == AUTO:
        rules[DECAY] = lambda config, _: decay_for(images / config.batch_size)
    source = config.resume or config.from_run
    recorded = recorded_settings(config, source) if rules and source is not None else {}
    seconds = _seconds_per_image(config, images, image_size, device)
    values = {key: recorded.get(key, AUTO) for key in rules}
    return {key: rules[key](config, seconds) if value == AUTO else value for key, value in values.items()}


def _width(config: Config, seconds: float | None) -> int:
    return USUAL_WIDTH if seconds is None else width_for(seconds)


def _policy(config: Config, seconds: float | None) -> str:
    if isinstance(config.transfer, Frozen):  # its features are computed once
        return CROP_FLIP
    has_many = config.epochs >= EPOCHS_OF_TRIVIAL if seconds is None else seconds >= SECONDS_OF_TRIVIAL
    return TRIVIAL if has_many else CROP_FLIP


def decay_for(steps: float) -> float:
    """The weight decay for optimizer.weight_decay=auto, with two digits; by the steps of an epoch."""
    return float(f"{USUAL_DECAY * min(STEPS_OF_USUAL_DECAY / steps, 1):.2g}")


def width_for(seconds_per_image: float) -> int:
    """The width for model.width=auto, a multiple of 8; by the seconds of one core for each image of 32 pixels."""
    least, most = WIDTHS
    return round(min(max(WIDTH_OF_A_SECOND * math.pow(seconds_per_image, 1 / 3), least), most) / 8) * 8


def _seconds_per_image(config: Config, images: int, image_size: int, device: torch.device) -> float | None:
    """Seconds of one core with bf16 for each training image, as if of 32 pixels; infinite on a GPU.

    None where no time is set.
    """
    if config.time is None:
        return None
    if device.type == "cuda":
        return math.inf
    speed = 1.0 if dtype_of(config.precision, device) == torch.bfloat16 else WITHOUT_BF16
    stride = config.model.at(image_size).stride if isinstance(config.model, ResNet9) else 1
    assert stride is not None
    of_32_pixels = (32 * stride / image_size) ** 2
    return seconds_of(config.time) * torch.get_num_threads() * speed * of_32_pixels / images


def as_decided(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with what was decided."""
    if WIDTH in values:
        assert isinstance(config.model, ResNet9)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, width=values[WIDTH]))
    if DECAY in values:
        config = dataclasses.replace(
            config, optimizer=dataclasses.replace(config.optimizer, weight_decay=values[DECAY])
        )
    if POLICY in values:
        kind: Any = groups()["augment"].options[values[POLICY]]
        config = dataclasses.replace(config, augment=kind(**{**vars(config.augment), "policy": values[POLICY]}))
    return config


def files_as_decided(settings: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """The files of .hydra/ with what was decided."""
    if not values or CONFIG not in settings:
        return dict(settings)
    recorded = yaml.safe_load(settings[CONFIG])
    for key, value in values.items():
        group, name = key.split(".")
        recorded[group][name] = value
    return {**settings, CONFIG: yaml.safe_dump(recorded, sort_keys=False, allow_unicode=True)}

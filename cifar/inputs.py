"""What a run's images are brought to: their size in pixels, and how; and the backbone that takes them."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from cifar.data.memory import total_memory
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.models.preprocess import Preprocess
from cifar.models.pretrained import Backbone
from cifar.options.config import Config
from cifar.options.data import SIZES
from cifar.options.splits import AUTO
from cifar.options.transfer import Frozen, Pretrained
from cifar.resources import SHARED, Resources

log = logging.getLogger(__name__)
LARGEST_OWN_SIZE = 128
"""With data.image_size=auto, images that are all square and equal keep their size up to so many pixels."""
AUTO_SIZE = 64
"""What data.image_size=auto is for other images, where no backbone decides."""


def request(config: Config, part: str, resources: Resources = SHARED, corrected: bool = True) -> Request:
    """What is asked of the data source for "train" or "test"."""
    once = isinstance(config.transfer, Frozen)  # the features are trained on, and kept
    in_memory = 0 if once else int(config.cache.memory_share * _memory(config.device))
    return Request(part, cache_folder(config), input_format(config, resources), in_memory, corrected)


def _memory(device: str) -> int:
    """Bytes: that of this machine; on a GPU, to which all images in memory go, that of the device where it is less."""
    name = "cuda" if device == "auto" else device
    if not name.startswith("cuda") or not torch.cuda.is_available():
        return total_memory()
    return min(total_memory(), _free_at_first(name))


@cache
def _free_at_first(device: str) -> int:
    """Bytes that are free on a CUDA device when this process first asks: images that are shared stay where they are."""
    return torch.cuda.mem_get_info(device)[0]


def input_format(config: Config, resources: Resources = SHARED) -> InputFormat:
    """What all images are brought to, with data.image_size=auto resolved.

    Images that differ in size reach a backbone as it takes them, from their own pixels.
    """
    data, fit = config.data, config.data.fit
    size = _own_size(config, resources) if data.image_size == AUTO else data.image_size
    if size is None and isinstance(config.transfer, Pretrained):
        preprocess = _backbone(config, resources).preprocess
        resize = preprocess.resize if fit == "crop" and preprocess.resize != preprocess.crop else None
        return InputFormat(preprocess.crop, fit, resize, _interpolation(preprocess))
    return InputFormat(size or AUTO_SIZE, fit)


def configured_backbone(config: Config, resources: Resources = SHARED) -> Backbone:
    """The backbone that config.transfer names; data.mean and data.std replace those of its weights.

    Its preprocessing neither resizes nor crops images that are in its input format already.
    """
    data, backbone = config.data, _backbone(config, resources)
    preprocess = replace(
        backbone.preprocess,
        mean=tuple(data.mean or backbone.preprocess.mean),
        std=tuple(data.std or backbone.preprocess.std),
    )
    if data.image_size == AUTO and _own_size(config, resources) is None:
        preprocess = replace(preprocess, resize=preprocess.crop)
    return replace(backbone, preprocess=preprocess)


def log_input(config: Config, resources: Resources = SHARED) -> None:
    """Log what data.image_size=auto is, and where a backbone would get more from the images' own pixels."""
    data, transfer = config.data, config.transfer
    format = input_format(config, resources)
    if data.image_size == AUTO:
        common = _own_size(config, resources)
        reason = "the size of all images"
        if common is None:
            backbone = "what the backbone takes, " if isinstance(transfer, Pretrained) else ""
            reason = f"{backbone}as the images are not all square, equal and of {SIZES[0]} to {LARGEST_OWN_SIZE} pixels"
        log.info("data.image_size=auto: %d pixels, %s", format.size, reason)
    elif data.measure and isinstance(transfer, Pretrained):
        taken = _backbone(config, resources).preprocess.crop
        if format.size < taken:
            log.warning(
                "data.image_size=%d: the backbone takes %d pixels, and gets them from images of %d; with"
                " data.image_size=auto it gets them from the images' own",
                *(format.size, taken, format.size),
            )


def cache_folder(config: Config) -> Path:
    return Path(config.cache.dir).expanduser()


def _own_size(config: Config, resources: Resources) -> int | None:
    """The height and width of all images, where they are to be kept."""
    data = config.data
    size = data.own_size or resources.common_size(data, Request("train", cache_folder(config)))
    return size if size is not None and SIZES[0] <= size <= LARGEST_OWN_SIZE else None


def _backbone(config: Config, resources: Resources) -> Backbone:
    transfer = config.transfer
    assert isinstance(transfer, Pretrained)
    return resources.backbone(transfer.backbone, transfer.weights, transfer.sha256, transfer.head, transfer.image_size)


def _interpolation(preprocess: Preprocess) -> str:
    """That of a backbone, where Pillow has one of this name."""
    known = preprocess.interpolation.upper() in Image.Resampling.__members__
    return preprocess.interpolation if known else InputFormat.interpolation

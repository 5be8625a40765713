"""What a run's images are brought to: their size in pixels, and how; and the backbone that takes them."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from cifar.content import recorded_content
from cifar.data.images import DataError, Images
from cifar.data.known import INITIAL, Known
from cifar.data.memory import total_memory
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.data.split_file import rows_of
from cifar.initial import Initial
from cifar.models.preprocess import Preprocess
from cifar.models.pretrained import Backbone
from cifar.models.weights import TransferError
from cifar.options.config import Config
from cifar.options.data import SIZES
from cifar.options.resume import recorded_config
from cifar.options.splits import AUTO
from cifar.options.transfer import Frozen, Pretrained
from cifar.resources import SHARED, Resources
from cifar.results import BEST

log = logging.getLogger(__name__)
LARGEST_OWN_SIZE = 128
"""With data.image_size=auto, images that are all square and equal keep their size up to so many pixels."""
AUTO_SIZE = 64
"""What data.image_size=auto is for other images, where no backbone decides."""


def request(config: Config, part: str, resources: Resources = SHARED, corrected: bool = True) -> Request:
    """What is asked of the data source for "train" or "test"."""
    once = isinstance(config.transfer, Frozen)  # the features are trained on, and kept
    in_memory = 0 if once else int(config.cache.memory_share * _memory(config.device))
    initial = initial_of(config, resources)
    known = initial.known if initial else None
    return Request(part, cache_folder(config), input_format(config, resources), in_memory, corrected, known)


def initial_of(config: Config, resources: Resources = SHARED) -> Initial | None:
    """The run that this one begins with (from_run): of a run that is resumed, its copy. None where it begins anew."""
    if config.from_run is None:
        return None
    run = Path(config.from_run)
    copy = Path(config.resume or "") / INITIAL
    directory = copy if config.resume is not None and (copy / BEST).exists() else run
    return resources.initial(directory, lambda: Initial.read(directory, _known(config, directory, resources)))


def _known(config: Config, directory: Path, resources: Resources) -> Known:
    """The images of the run in a directory. Raises DataError where nothing says which they are."""
    known = Known.read(directory)
    if known is not None:
        return known
    former = recorded_config(config, str(directory))
    run = replace(former, from_run=None, resume=None, cache=config.cache, device=config.device)
    return Known.of(rows_of(_former_parts(run, directory, resources)))


def _former_parts(config: Config, run: Path, resources: Resources) -> dict[str, Images]:
    """The parts of a run of an earlier version, which wrote no split.csv, where its images are where they were."""
    place = f"data.root={config.data.root}"
    problem = f"{place} is not there"
    if config.data.knows_content and config.data.only_reads(config.data.root or ""):
        try:
            splits = resources.splits(config.data, request(config, "train", resources))
        except DataError as error:
            problem = str(error)
        else:
            parts = {"train": splits.train, "val": splits.val}
            recorded = recorded_content(run).get("data", {})
            if all(recorded.get(name, {}).get("fingerprint") == each.fingerprint for name, each in parts.items()):
                return parts
            problem = f"{place} holds other images now"
    raise DataError(
        f"from_run={run}: the images that it was trained on are not known: it has no split.csv, as an earlier version"
        f" of this program wrote it, and its own images cannot tell ({problem}); allowed: put these back, or a run of"
        " this version"
    )


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
    initial = initial_of(config, resources)
    if initial is not None:
        return initial.format
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
    initial = initial_of(config, resources)
    if initial is not None:
        _check_weights(config, backbone, initial)
        return replace(backbone, preprocess=initial.preprocess)
    preprocess = replace(
        backbone.preprocess,
        mean=tuple(data.mean or backbone.preprocess.mean),
        std=tuple(data.std or backbone.preprocess.std),
    )
    if data.image_size == AUTO and _own_size(config, resources) is None:
        preprocess = replace(preprocess, resize=preprocess.crop)
    return replace(backbone, preprocess=preprocess)


def _check_weights(config: Config, backbone: Backbone, initial: Initial) -> None:
    """Raises TransferError where a frozen backbone is not that of the head with which a run begins."""
    sha256 = initial.best["transfer"].get("weights_sha256")
    if isinstance(config.transfer, Frozen) and backbone.sha256 != sha256:
        raise TransferError(
            f"transfer.weights={config.transfer.weights}: holds other weights than those that the head of"
            f" from_run={config.from_run} was trained on (SHA-256 {str(sha256)[:12]}...);"
            " allowed: these, at any place"
        )


def log_input(config: Config, resources: Resources = SHARED) -> None:
    """Log what data.image_size=auto is, and where a backbone would get more from the images' own pixels."""
    data, transfer = config.data, config.transfer
    format = input_format(config, resources)
    if config.from_run is not None:
        log.info("from_run=%s: its preprocessing, for images of %d pixels", config.from_run, format.size)
    elif data.image_size == AUTO:
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

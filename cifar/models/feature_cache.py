"""Features of images: a pretrained backbone passes over the images once, and a linear head trains on the features.

A cache entry is one safetensors file, <cache>/features/<key>.safetensors: features float32 (N, F), and as metadata the
parts of its key (JSON), the seconds of its extraction and the SHA-256 of the features. While an entry is made, its
finished blocks lie in <key>.parts/.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cifar.data import checked_file
from cifar.data.augment.views import AugmentedPixels, Version
from cifar.data.images import Images
from cifar.data.pixels import Pixels
from cifar.models.pretrained import Backbone
from cifar.models.weights import TransferError

log = logging.getLogger(__name__)
BATCHES_PER_BLOCK = 32
"""Batches between two saves of an extraction."""
PART_IMAGES, PART_PIXELS = 16, 16 * 224**2
"""On a CPU, a batch passes through the backbone in parts of at least so many images, and of about so many pixels.

ResNet-50 at 224 pixels in bfloat16 takes 0.9 GB for a batch of 64 in one, 0.2 GB in parts of 16, which are no slower.
Features are the same bit for bit, which those of parts of 8 are not in float32: measured with 8 networks.
"""
NAMES_IN_KEYS = {"cifar.models.resnet.BottleneckResNet": "cifar.resnet.BottleneckResNet"}
"""Networks that have moved: keys hold their first import path, so that older cache entries stay valid."""
REMEDY = "computing the features again"


def folder(cache_dir: Path | str) -> Path:
    """Where the features of a cache directory lie."""
    return Path(cache_dir).expanduser() / "features"


@dataclass(frozen=True)
class Features:
    """features float32 (N, F), mapped from the cache; `seconds`: how long their extraction took, whenever it was."""

    features: Tensor
    key: str
    seconds: float


@dataclass
class FeatureCache:
    """Features of images, kept in `folder` under a key of all that they depend on.

    `device`, `autocast` and its name `precision` say where and how they are computed, `batch_size` images at once.

    `checked` holds what has been mapped and checked already: caches that share it map and check an entry once.
    """

    folder: Path
    device: torch.device
    batch_size: int
    precision: str
    autocast: Callable[[], AbstractContextManager[object]]
    checked: dict[Path, Features] = field(default_factory=dict, repr=False)

    def get(self, backbone: Backbone, images: Images | Version) -> Features:
        """From the cache, or computed and cached; of several processes that ask at once, one computes.

        Raises FileError where the cache cannot be written, TransferError for features that are not finite.
        """
        parts = self._key_parts(backbone, images)
        entry = self.folder / f"{_key(parts)}.safetensors"
        if entry not in self.checked or not entry.exists():
            parse = partial(_parse, entry, (len(images), backbone.width))
            make = partial(self._extract, entry, parts, backbone, images)
            self.checked[entry] = checked_file.read_or_make(entry, parse, make, REMEDY)
        return self.checked[entry]

    def _key_parts(self, backbone: Backbone, images: Images | Version) -> dict[str, object]:
        """All that the features depend on, in plain types."""
        return {
            "backbone": backbone.name,
            "options": backbone.options,
            "weights_sha256": backbone.sha256,
            "preprocess": asdict(backbone.preprocess),
            "data": images.fingerprint,
            "images": len(images),
            "precision": self.precision,
            "batch_size": self.batch_size,
            "device": self.device.type,
            "versions": {name: version(name) for name in ("torch", "torchvision")},
        }

    def _extract(self, entry: Path, parts: dict[str, object], backbone: Backbone, images: Images | Version) -> None:
        """Compute block by block, except for blocks that an interrupted extraction has left, and join them."""
        folder = entry.with_suffix(".parts")
        folder.mkdir(exist_ok=True)
        with self._on_device(backbone):
            blocks = list(self._blocks(folder, backbone, images.images))
        seconds = sum((block.seconds for block in blocks), 0.0)
        _write(entry, [block.features for block in blocks], seconds, {"parts": json.dumps(parts)})
        shutil.rmtree(folder)
        count = len(images)
        log.info("%d images through %s in %.1f s (%.0f images/s)", count, backbone.name, seconds, count / seconds)

    def _blocks(self, folder: Path, backbone: Backbone, images: Pixels | AugmentedPixels) -> Iterator[Features]:
        """The blocks of an extraction, in order, with a progress bar; each is mapped from `folder`."""
        size = self.batch_size * BATCHES_PER_BLOCK
        with tqdm(total=len(images), desc="extracting features", unit="image", disable=None) as bar:
            for first in range(0, len(images), size):
                end = min(first + size, len(images))
                path = folder / f"{first}.safetensors"
                parse = partial(_parse_block, path.stem, (end - first, backbone.width))
                starts = range(first, end, self.batch_size)
                batches = (images[i : min(i + self.batch_size, end)] for i in starts)
                make = partial(self._compute, path, backbone, batches, bar)
                yield checked_file.read_or_make(path, parse, make, REMEDY)
                bar.update(end - bar.n)

    def _compute(self, path: Path, backbone: Backbone, batches: Iterator[Tensor], bar: tqdm[None]) -> None:
        """Write the features of one block to `path`."""
        start = time.perf_counter()
        rows = []
        for batch in batches:
            for part in self._parts(batch, backbone.preprocess.crop):
                with self.autocast():
                    rows.append(backbone.features(part.to(self.device)).cpu())
            bar.update(len(batch))
        features = torch.cat(rows)
        if not features.isfinite().all():
            raise TransferError(f"{backbone.name} gives features that are not finite; try precision=fp32")
        _write(path, [features], time.perf_counter() - start, {})

    def _parts(self, batch: Tensor, side: int) -> Sequence[Tensor]:
        """The batch in parts that pass through the backbone one after another, as images of side x side pixels."""
        if self.device.type != "cpu":
            return (batch,)
        least = max(PART_IMAGES, PART_PIXELS // side**2)
        return batch.tensor_split(max(1, len(batch) // least))

    @contextmanager
    def _on_device(self, backbone: Backbone) -> Iterator[None]:
        backbone.model.to(self.device).to(memory_format=torch.channels_last)
        try:
            yield
        finally:
            backbone.model.cpu()


def _key(parts: dict[str, object]) -> str:
    """The name of the cache entry of features that depend on `parts`."""
    network = str(parts["backbone"])
    content = json.dumps(parts | {"backbone": NAMES_IN_KEYS.get(network, network)}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _digest(*features: Tensor) -> str:
    """SHA-256 of the rows of all, one after another."""
    digest = hashlib.sha256()
    for block in features:
        digest.update(block.numpy().data)
    return digest.hexdigest()


def _write(path: Path, blocks: list[Tensor], seconds: float, metadata: dict[str, str]) -> None:
    """Write features that are given in blocks of rows."""
    metadata = metadata | {"seconds": repr(seconds), "sha256": _digest(*blocks)}
    checked_file.write(path, "features", blocks, metadata)


def _parse(entry: Path, shape: tuple[int, int], tensors: dict[str, Tensor], metadata: dict[str, str]) -> Features:
    """The features in a cache entry. Raises KeyError or ValueError where it is damaged."""
    features = _shaped(tensors, shape)
    checked_file.check_once(entry, metadata["sha256"], lambda: _digest(features))
    return Features(features, entry.stem, float(metadata["seconds"]))


def _parse_block(key: str, shape: tuple[int, int], tensors: dict[str, Tensor], metadata: dict[str, str]) -> Features:
    """The features in the file of a block. Raises KeyError or ValueError where it is damaged."""
    features = _shaped(tensors, shape)
    checked_file.check_digest(_digest(features), metadata["sha256"])
    return Features(features, key, float(metadata["seconds"]))


def _shaped(tensors: dict[str, Tensor], shape: tuple[int, int]) -> Tensor:
    features = tensors["features"]
    if features.shape != shape:
        raise ValueError(f"its features have the shape {tuple(features.shape)}, not {shape}")
    return features

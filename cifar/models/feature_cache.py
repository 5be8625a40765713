"""Transfer by features: a pretrained backbone passes over the images once, and a linear head trains on what it gave.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from cifar.data.images import Images
from cifar.files import write_atomically
from cifar.models.pretrained import Backbone, TransferError

log = logging.getLogger(__name__)
BLOCK = 32
"""Batches between two saves of an extraction."""


def folder(cache_dir: str) -> Path:
    """Where the features of a cache directory lie."""
    return Path(cache_dir).expanduser() / "features"


@dataclass(frozen=True)
class Features:
    """features float32 (N, F), mapped from the cache; `seconds` is what their extraction took, whenever it was."""

    features: Tensor
    key: str
    seconds: float


_checked: dict[Path, Features] = {}
"""What this process has mapped and checked, for its next run."""


@dataclass
class FeatureCache:
    """Features by what they depend on. `autocast` and `precision` say how they are computed, `device` where."""

    folder: Path
    device: torch.device
    batch_size: int
    precision: str
    autocast: Callable[[], Any]
    progress: Callable[..., Any] = field(default=tqdm, repr=False)

    def parts(self, backbone: Backbone, images: Images) -> dict[str, Any]:
        """All that features depend on."""
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

    def get(self, backbone: Backbone, images: Images) -> Features:
        """From the cache, or computed and cached; of processes that ask at once, one computes. Raises FileError."""
        parts = self.parts(backbone, images)
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        entry = self.folder / f"{key}.safetensors"
        if entry in _checked and entry.exists():
            return _checked[entry]
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            found = read_features(entry, backbone.width, len(images))
            if found is None:
                self._make(entry, parts, backbone, images)
                found = read_features(entry, backbone.width, len(images))
        if found is None:
            raise TransferError(f"{entry}: cannot be read back; name another cache.dir")
        _checked[entry] = found
        return found

    def _make(self, entry: Path, parts: dict[str, Any], backbone: Backbone, images: Images) -> None:
        """Compute block by block, those that an interrupted extraction left excepted, and join them."""
        blocks = entry.with_suffix(".parts")
        blocks.mkdir(exist_ok=True)
        size, count = self.batch_size * BLOCK, len(images)
        found, seconds = [], 0.0
        with (
            self._on_device(backbone),
            self.progress(total=count, desc="extracting features", unit="image", disable=None) as bar,
        ):
            for start in range(0, count, size):
                block = read_features(blocks / f"{start}.safetensors", backbone.width, min(size, count - start))
                if block is None:
                    block = self._block(
                        blocks / f"{start}.safetensors", backbone, images.images[start : start + size], bar
                    )
                else:
                    bar.update(len(block.features))
                found.append(block.features)
                seconds += block.seconds
        write_features(entry, torch.cat(found), {"parts": json.dumps(parts), "seconds": repr(seconds)})
        shutil.rmtree(blocks)
        log.info("%d images through %s in %.1f s (%.0f images/s)", count, backbone.name, seconds, count / seconds)

    def _block(self, path: Path, backbone: Backbone, images: Tensor, bar: Any) -> Features:
        begun = time.perf_counter()
        rows = []
        for batch in images.split(self.batch_size):
            with self.autocast():
                rows.append(backbone.features(batch.to(self.device)).cpu())
            bar.update(len(batch))
        block = Features(torch.cat(rows), path.stem, time.perf_counter() - begun)
        if not block.features.isfinite().all():
            raise TransferError(f"{backbone.name} gives features that are not finite; try precision=fp32")
        write_features(path, block.features, {"seconds": repr(block.seconds)})
        return block

    @contextmanager
    def _on_device(self, backbone: Backbone) -> Iterator[None]:
        backbone.model.to(self.device).to(memory_format=torch.channels_last)
        try:
            yield
        finally:
            backbone.model.cpu()


def write_features(path: Path, features: Tensor, metadata: dict[str, str]) -> None:
    digest = hashlib.sha256(features.numpy().data).hexdigest()
    content = save({"features": features}, metadata | {"sha256": digest})
    write_atomically(path, content)


def read_features(path: Path, width: int, count: int) -> Features | None:
    """The features of a cache file, or None where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            features, metadata = file.get_tensor("features"), file.metadata()
        whole = (
            features.shape == (count, width) and hashlib.sha256(features.numpy().data).hexdigest() == metadata["sha256"]
        )
        if whole:
            return Features(features, path.stem, float(metadata["seconds"]))
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        log.warning("%s is damaged (%s): computing the features again", path, error)
        return None
    log.warning("%s is damaged (its content is not what was written): computing the features again", path)
    return None

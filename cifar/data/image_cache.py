"""The cache of decoded images: a safetensors file, written block by block and read where it is used.

labels int64 (N,), images uint8 (N, 3, H, W) and their digests uint8 (N, 16); as metadata the class names (JSON), the
fingerprint, SHA-256 of the digests, a digest of the files that were decoded, and the version of the rules of decode.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cifar.data import checked_file
from cifar.data.decode import DECODING
from cifar.data.digests import SIZE
from cifar.data.images import Images, begin_fingerprint, fingerprint_of
from cifar.data.pixels import OnDisk
from cifar.files import FileError, writing_atomically

log = logging.getLogger(__name__)
NO_FINGERPRINT = "0" * 64
"""Stands in the header until all images are written."""


class Block(NamedTuple):
    """Images uint8 (K, 3, H, W) and their digests uint8 (K, 16)."""

    images: Tensor
    digests: Tensor


def parse(entry: Path, in_memory: int, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
    """The images in a cache file, of which those of more than `in_memory` bytes stay there.

    Raises KeyError or ValueError where it is damaged, and Outdated for one that an earlier version wrote.
    """
    if "digests" not in metadata or metadata.get("decoding") != DECODING:
        raise checked_file.Outdated
    pixels, labels, digests = tensors["images"], tensors["labels"], tensors["digests"]
    classes = tuple(json.loads(metadata["classes"]))
    fingerprint = metadata["fingerprint"]

    def written() -> str:
        return fingerprint_of(pixels, labels, classes) + _sha256(digests)

    checked_file.check_once(entry, fingerprint + metadata["digests"], written)
    images = Images(pixels, labels, classes, fingerprint, metadata.get("files"), digests=digests)
    if pixels.numel() <= in_memory:
        return images
    if in_memory > 0:
        log.info(
            "%d images take %.2f GB, more than cache.memory_share of the memory: every batch is read from %s (slower)",
            *(len(pixels), pixels.numel() / 1e9, entry),
        )
    stored = OnDisk(entry, checked_file.offset_of(entry, "images"), tuple(pixels.shape))
    return replace(images, images=stored, labels=labels.clone(), digests=digests.clone())


def write(
    entry: Path,
    shape: tuple[int, ...],
    labels: Tensor,
    classes: tuple[str, ...],
    blocks: Iterable[Block],
    files: Callable[[], str] | None = None,
) -> None:
    """Write images of this shape, given in blocks, with their labels. Raises FileError.

    `files` computes the SHA-256 of the files that they were decoded from, when all are decoded.
    """
    _check_space(entry, shape)
    digest = begin_fingerprint(shape, labels, classes)
    with writing_atomically(entry) as file:
        file.write(_header(shape, classes, NO_FINGERPRINT if files else "", NO_FINGERPRINT, NO_FINGERPRINT))
        file.write(labels.numpy().data)
        digests = []
        for block in blocks:
            digest.update(block.images.numpy().data)
            file.write(block.images.numpy().data)
            digests.append(block.digests)
        all_digests = torch.cat(digests)
        file.write(all_digests.numpy().data)
        file.seek(0)
        fingerprint, sha256 = digest.hexdigest(), _sha256(all_digests)
        file.write(_header(shape, classes, files() if files else "", fingerprint, sha256))
    checked_file.remember(entry, fingerprint + sha256)


def _sha256(digests: Tensor) -> str:
    return hashlib.sha256(digests.numpy().data).hexdigest()


def _header(shape: tuple[int, ...], classes: tuple[str, ...], files: str, fingerprint: str, digests: str) -> bytes:
    """The beginning of a safetensors file: its length depends on no fingerprint."""
    count, channels, height, width = shape
    ends = [8 * count, 8 * count + count * channels * height * width]
    content = {
        "__metadata__": {
            "classes": json.dumps(classes),
            "fingerprint": fingerprint,
            "decoding": DECODING,
            "files": files,
            "digests": digests,
        },
        "labels": {"dtype": "I64", "shape": [count], "data_offsets": [0, ends[0]]},
        "images": {"dtype": "U8", "shape": list(shape), "data_offsets": ends},
        "digests": {"dtype": "U8", "shape": [count, SIZE], "data_offsets": [ends[1], ends[1] + SIZE * count]},
    }
    return checked_file.header(content)


def _check_space(entry: Path, shape: tuple[int, ...]) -> None:
    """Raises FileError where the disk has too little space."""
    count, channels, height, width = shape
    needed = count * channels * height * width
    free = shutil.disk_usage(entry.parent).free
    if needed > free:
        raise FileError(
            f"cannot write {entry}: {count} images of {height}x{width} pixels take {needed / 1e9:.1f} GB, and"
            f" {free / 1e9:.1f} GB are free; free some space, name another folder with cache.dir=DIR, or choose smaller"
            " images with data.image_size (transfer.image_size)"
        )

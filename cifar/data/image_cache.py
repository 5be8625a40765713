"""The cache of decoded images: a safetensors file, written block by block and read where it is used.

labels int64 (N,) and images uint8 (N, 3, H, W), and as metadata the class names (JSON), the fingerprint, a digest of
the files that were decoded, and the version of the rules of decode.py.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from cifar.data import checked_file
from cifar.data.decode import DECODING
from cifar.data.images import Images, begin_fingerprint, fingerprint_of
from cifar.data.pixels import OnDisk
from cifar.files import FileError, writing_atomically

log = logging.getLogger(__name__)
NO_FINGERPRINT = "0" * 64
"""Stands in the header until all images are written."""


def parse(entry: Path, in_memory: int, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
    """The images in a cache file, of which those of more than `in_memory` bytes stay there.

    Raises KeyError or ValueError where it is damaged.
    """
    pixels, labels = tensors["images"], tensors["labels"]
    classes = tuple(json.loads(metadata["classes"]))
    fingerprint = metadata["fingerprint"]
    checked_file.check_once(entry, fingerprint, lambda: fingerprint_of(pixels, labels, classes))
    files = metadata.get("files")
    if pixels.numel() <= in_memory:
        return Images(pixels, labels, classes, fingerprint, files)
    if in_memory > 0:
        log.info(
            "%d images take %.2f GB, more than cache.memory_share of the memory: every batch is read from %s (slower)",
            *(len(pixels), pixels.numel() / 1e9, entry),
        )
    stored = OnDisk(entry, checked_file.offset_of(entry, "images"), tuple(pixels.shape))
    return Images(stored, labels.clone(), classes, fingerprint, files)


def write(
    entry: Path,
    shape: tuple[int, ...],
    labels: Tensor,
    classes: tuple[str, ...],
    blocks: Iterable[Tensor],
    files: str,
) -> None:
    """Write images of this shape, given in blocks, with their labels. Raises FileError."""
    _check_space(entry, shape)
    digest = begin_fingerprint(shape, labels, classes)
    with writing_atomically(entry) as file:
        file.write(_header(shape, classes, files, NO_FINGERPRINT))
        file.write(labels.numpy().data)
        for block in blocks:
            digest.update(block.numpy().data)
            file.write(block.numpy().data)
        file.seek(0)
        file.write(_header(shape, classes, files, digest.hexdigest()))
    checked_file.remember(entry, digest.hexdigest())


def _header(shape: tuple[int, ...], classes: tuple[str, ...], files: str, fingerprint: str) -> bytes:
    """The beginning of a safetensors file: its length depends on no fingerprint."""
    count, channels, height, width = shape
    end = 8 * count
    content = {
        "__metadata__": {
            "classes": json.dumps(classes),
            "fingerprint": fingerprint,
            "decoding": DECODING,
            "files": files,
        },
        "labels": {"dtype": "I64", "shape": [count], "data_offsets": [0, end]},
        "images": {
            "dtype": "U8",
            "shape": list(shape),
            "data_offsets": [end, end + count * channels * height * width],
        },
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

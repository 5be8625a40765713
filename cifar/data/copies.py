"""Identical images on both sides of a split: how many there are, by their pixels.

Each image has a sum of its pixels with random weights, modulo 2**64; only images whose sums are equal are compared. Of
images that stay on disk, the sums are kept in <file>.sums beside them, so that these are read through once.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from io import BytesIO
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar.data.images import Images
from cifar.data.pixels import OnDisk, Pixels, blocks, taken
from cifar.files import FileError, write_atomically

log = logging.getLogger(__name__)
SUMS = ".sums"
"""The suffix of the file that holds the sums of the images in a file."""
Sums = NDArray[np.uint64]


def warn_of_copies(images: Images, train: Images, what: str) -> int:
    """How many of the images are in `train` too; where there are any, a warning says so. `what`: validation or test."""
    count = count_copies(images.images, train.images)
    if count:
        groups = ", or keep copies on one side of the split with data.groups where the source has it"
        log.warning(
            "%s of %s %s images are also among the images to train on (identical at %d pixels): what is measured on"
            " these is too good; remove the copies%s",
            *(f"{count:,}", f"{len(images):,}", what, images.images.shape[-1], "" if what == "test" else groups),
        )
    return count


def count_copies(pixels: Pixels, train: Pixels) -> int:
    """How many of the images are in `train` too, equal in every pixel."""
    return int(copies(pixels, train).sum())


def copies(pixels: Pixels, train: Pixels) -> NDArray[np.bool_]:
    """(N,): whether each of the images is in `train` too, equal in every pixel."""
    equal = np.zeros(len(pixels), bool)
    if pixels.shape[1:] != train.shape[1:]:
        return equal
    sums, sums_of_train = _sums(pixels), _sums(train)
    suspects = np.flatnonzero(np.isin(sums, sums_of_train))
    if not len(suspects):
        return equal
    others = np.flatnonzero(np.isin(sums_of_train, sums[suspects]))
    known = set(_digests(train, others))
    equal[suspects] = [digest in known for digest in _digests(pixels, suspects)]
    return equal


def _digests(pixels: Pixels, indices: NDArray[np.int64]) -> list[bytes]:
    """Of the images at `indices`, 16 bytes each."""
    chosen = blocks(taken(pixels, torch.from_numpy(indices)))
    return [hashlib.blake2b(image.numpy().data, digest_size=16).digest() for block in chosen for image in block]


def _sums(pixels: Pixels) -> Sums:
    """uint64 (N,)."""
    if not isinstance(pixels, OnDisk):
        return _compute_sums(pixels)
    sums: Sums = _stored_sums(pixels)[pixels.rows.numpy()]
    return sums


def _compute_sums(pixels: Pixels) -> Sums:
    words = -(-int(np.prod(pixels.shape[1:])) // 8)
    weights = np.random.default_rng(0).integers(2**64, size=words, dtype=np.uint64)
    return np.concatenate([_rows(block, 8 * words).view(np.uint64) @ weights for block in blocks(pixels)])


def _rows(images: Tensor, size: int) -> NDArray[np.uint8]:
    """uint8 (N, size): the pixels of each image, and zeros."""
    rows = images.contiguous().numpy().reshape(len(images), -1)
    return rows if rows.shape[1] == size else np.pad(rows, ((0, 0), (0, size - rows.shape[1])))


def _stored_sums(pixels: OnDisk) -> Sums:
    """Of all images in the file, from beside it where they are of the file as it is now."""
    path = pixels.path.with_suffix(SUMS)
    version = pixels.version()
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as stored:
        if stored["version"].tolist() == version:
            sums: Sums = stored["sums"]
            return sums
    sums = _compute_sums(pixels.all())
    content = BytesIO()
    np.savez(content, sums=sums, version=np.array(version))
    with suppress(FileError):  # it only saves reading them again
        write_atomically(path, content.getvalue())
    return sums

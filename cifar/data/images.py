"""Images: what every source of data becomes, as uint8, in memory or, where they are too many, in a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar.data.pixels import Pixels, blocks, taken
from cifar.errors import UserError


class DataError(UserError):
    """Data that cannot be trained on. The message names the place, what is allowed and what to do."""


@dataclass(frozen=True)
class Images:
    """images: uint8 (N, 3, H, W) RGB; labels: int64 (N,), indices into classes; fingerprint: SHA-256 of all three.

    `files`: a digest of the files that they were decoded from, None where it is not known.
    `groups`: int64 (N,), equal for images that a split keeps on one side, as cifar.data.groups numbers them; None: each
    image is a group by itself. `names` (N,): of their files below data.root, or their positions in the part, as text.
    `digests`: uint8 (N, 16), of what each image shows at its own size, as cifar.data.digests computes them; None where
    the source knows none. `unreadable`: the files that were left out, by name, with the reason (data.unreadable=skip).
    """

    images: Pixels
    labels: Tensor
    classes: tuple[str, ...]
    fingerprint: str
    files: str | None = None
    groups: Tensor | None = None
    names: tuple[str, ...] = ()
    digests: Tensor | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Images:
        """The images at `indices` (K,), in that order."""
        chosen = torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        fingerprint = hashlib.sha256(self.fingerprint.encode() + chosen.numpy().tobytes()).hexdigest()
        return replace(
            self,
            images=taken(self.images, chosen),
            labels=self.labels[chosen],
            fingerprint=fingerprint,
            groups=None if self.groups is None else self.groups[chosen],
            names=tuple(self.names[index] for index in indices.tolist()) if self.names else (),
            digests=None if self.digests is None else self.digests[chosen],
        )

    def sample(self, count: int) -> Images:
        """`count` of the images, at even distances; all where there are no more."""
        return self.take(evenly(len(self), count))

    def with_classes(self, classes: tuple[str, ...]) -> Images:
        """The same images, their labels indices into `classes`, by name. Raises DataError for other classes."""
        if classes == self.classes:
            return self
        present = set(self.present_classes())
        others = [name for name in self.classes if name in present and name not in classes]
        if others:
            raise DataError(
                f"it has classes that the training part lacks: {', '.join(others)}; allowed: some or all of"
                f" {', '.join(classes)}"
            )
        positions = torch.tensor([classes.index(name) if name in classes else -1 for name in self.classes])
        labels = positions[self.labels]
        fingerprint = fingerprint_of(self.images, labels, classes)
        return replace(self, labels=labels, classes=classes, fingerprint=fingerprint, files=None)

    def present_classes(self) -> list[str]:
        """The classes of which there is an image."""
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return [name for name, count in zip(self.classes, counts, strict=True) if count]

    def missing_classes(self) -> list[str]:
        """The classes of which there is none."""
        present = self.present_classes()
        return [name for name in self.classes if name not in present]


def from_arrays(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Images:
    """From images (N, H, W, 3) uint8 and labels (N,)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    indices = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return Images(pixels, indices, classes, fingerprint_of(pixels, indices, classes), names=positions(len(pixels)))


def evenly(total: int, count: int) -> NDArray[np.int64]:
    """`count` positions of `total`, at even distances; all where there are no more."""
    indices: NDArray[np.int64] = np.linspace(0, total - 1, min(total, count)).round().astype(np.int64)
    return indices


def positions(count: int) -> tuple[str, ...]:
    """The names of images that are in no files: 0, 1, ..."""
    return tuple(map(str, range(count)))


def fingerprint_of(images: Pixels, labels: Tensor, classes: tuple[str, ...]) -> str:
    """SHA-256 of the shape, the class names, the labels and the pixels."""
    digest = begin_fingerprint(images.shape, labels, classes)
    for block in [images] if isinstance(images, Tensor) else blocks(images):
        digest.update(block.numpy().data)
    return digest.hexdigest()


def begin_fingerprint(shape: Sequence[int], labels: Tensor, classes: tuple[str, ...]) -> hashlib._Hash:
    """The SHA-256 of fingerprint_of before the pixels."""
    digest = hashlib.sha256(json.dumps([list(shape), classes]).encode())
    digest.update(labels.numpy().data)
    return digest


def channel_statistics(images: Pixels) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1], from images uint8 (N, 3, H, W)."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for block in blocks(images):
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in block.unbind(1)])
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ values
    std = (shares @ values.square() - mean.square()).clamp_min(0).sqrt()
    return mean.tolist(), std.clamp_min(1 / 255).tolist()


def printable(name: Path | str) -> str:
    r"""A file name as text that every encoding of Unicode can hold: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def on_one_line(name: Path | str) -> str:
    r"""A file name as `printable` gives it, with control characters (a line break, a tab) as \n, \t, \x1b."""
    characters = printable(name)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in characters)

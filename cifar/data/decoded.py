"""Image files with labels, whatever lists them, as Images: decoded once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cifar.cores import available_cores
from cifar.data import checked_file, image_cache
from cifar.data.decode import Decoded, common_side, decode
from cifar.data.digests import SIZE
from cifar.data.file_digest import digest_of_files
from cifar.data.image_cache import Block
from cifar.data.images import Images, printable
from cifar.data.listing import LabelledFile
from cifar.data.pixels import rows_of
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.files import FileError, write_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Image files with their labels, indices into `classes`. Files below `directory` are known by their names there.

    `labels_from`: "" where the labels are in the names, as in folders; else the file or the rule that they are from.
    """

    directory: Path
    files: list[LabelledFile]
    classes: tuple[str, ...]
    labels_from: str = ""

    @property
    def paths(self) -> list[Path]:
        return [path for path, _ in self.files]

    def name(self, path: Path) -> str:
        """The name of a file below `directory`; the whole path of another."""
        return str(path.relative_to(self.directory) if path.is_relative_to(self.directory) else path)

    def key(self, kind: object) -> str:
        """Of a cache entry of this kind: it depends on the files' names, sizes and times, and on the labels."""
        state = []
        for path in self.paths:
            status = path.stat()
            state.append((self.name(path), status.st_size, status.st_mtime_ns))
        labels = [self._labels()] if self.labels_from else []
        content = json.dumps([kind, str(self.directory.resolve()), state, *labels])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def digest(self) -> str:
        """SHA-256 of the names and contents of the files, and of the labels where they are from elsewhere."""
        digest = digest_of_files(self.name, self.paths)
        if not self.labels_from:
            return digest
        return hashlib.sha256(json.dumps([digest, self._labels()]).encode()).hexdigest()

    def _labels(self) -> object:
        return [self.labels_from, self.classes, [label for _, label in self.files]]


class Listed(NamedTuple):
    """Image files of one part, as they are inspected, and their groups, int64 (N,), where data.groups says some."""

    listing: Listing
    groups: Tensor | None


def load(listing: Listing, request: Request) -> Images:
    """The images of a listing, from the cache, or decoded. Raises DataError for one that cannot be decoded."""
    files, classes = listing.files, listing.classes
    key = listing.key(_format_key(request.format))
    entry = request.cache_dir / "images" / f"{key}.safetensors"

    def parse(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
        images = image_cache.parse(entry, request.in_memory, tensors, metadata)
        return replace(images, names=tuple(printable(listing.name(path)) for path in listing.paths))

    def make() -> None:
        shape = (len(files), 3, request.format.size, request.format.size)
        labels = torch.tensor([label for _, label in files], dtype=torch.int64)
        image_cache.write(entry, shape, labels, classes, _decoded(files, request.format), listing.digest())

    return checked_file.read_or_make(entry, parse, make, "decoding the images again")


def common_size(listing: Listing, cache_dir: Path) -> int | None:
    """The height and width of all images, None where they are not all square and equal.

    Kept in the cache by the files' names, sizes and times.
    """
    file = cache_dir / "sizes" / f"{listing.key('sizes')}.json"
    with suppress(OSError, ValueError):
        recorded = json.loads(file.read_bytes())
        return recorded if isinstance(recorded, int) else None
    size = common_side(listing.paths)
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileError):  # it only saves reading the headers again
        write_atomically(file, json.dumps(size).encode())
    return size


def _format_key(format: InputFormat) -> object:
    """What of an input format is part of a key; that of former versions is as they wrote it."""
    return format.size if format == InputFormat() else asdict(format)


def _decoded(files: list[LabelledFile], format: InputFormat) -> Iterator[Block]:
    """Blocks of images, decoded in threads, with a progress bar; logs once how many images were changed."""
    counts: Counter[str] = Counter()
    shape = (len(files), 3, format.size, format.size)
    with (
        ThreadPoolExecutor(available_cores()) as pool,
        tqdm(total=len(files), desc="decoding images", unit="image", disable=None) as bar,
    ):
        for start in range(0, len(files), rows_of(shape)):
            paths = [path for path, _ in files[start : start + rows_of(shape)]]
            pixels = np.empty((len(paths), *shape[1:]), np.uint8)
            digests = np.empty((len(paths), SIZE), np.uint8)
            for index, image in enumerate(_in_order(pool, paths, format)):
                pixels[index] = image.pixels.transpose(2, 0, 1)
                digests[index] = np.frombuffer(image.digest, np.uint8)
                counts.update(image.changes)
                bar.update()
            yield Block(torch.from_numpy(pixels), torch.from_numpy(digests))
    for change, count in counts.items():
        log.info("%d of %d images %s", count, len(files), change)


def _in_order(pool: ThreadPoolExecutor, paths: list[Path], format: InputFormat) -> Iterator[Decoded]:
    """The images of these files. An error ends what is still to be decoded."""
    try:
        yield from pool.map(partial(decode, format=format), paths)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise

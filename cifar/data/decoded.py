"""Image files with labels, whatever lists them, as Images: decoded once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from threading import Event

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cifar.cores import available_cores
from cifar.data import checked_file, image_cache, unreadable
from cifar.data.decode import Decoded, Unreadable, common_side, decode
from cifar.data.digests import SIZE
from cifar.data.file_digest import digest_of_files
from cifar.data.image_cache import Block
from cifar.data.images import DataError, Images, on_one_line, printable
from cifar.data.listing import LabelledFile
from cifar.data.pixels import rows_of
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.data.storage import DISK, Storage
from cifar.data.unreadable import Problem, UnreadableError, shown
from cifar.files import FileError, write_atomically
from cifar.options.splits import ERROR, SKIP

log = logging.getLogger(__name__)
MOST_AT_ONCE = 32
"""Files that a thread decodes before it hands them over, at most: for each single one, threads wait for each other."""


@dataclass(frozen=True)
class Listing:
    """Image files with their labels, indices into `classes`. Files below `directory` are known by their names there.

    `labels_from`: "" where the labels are in the names, as in folders; else the file or the rule that they are from.
    `broken`: what is named as an image and is no file, with the reason. `storage`: where all of these are.
    """

    directory: Path
    files: list[LabelledFile]
    classes: tuple[str, ...]
    labels_from: str = ""
    broken: Mapping[Path, str] = field(default_factory=dict)
    storage: Storage = DISK

    @property
    def paths(self) -> list[Path]:
        return [path for path, _ in self.files]

    def name(self, path: Path) -> str:
        """The name of a file below `directory`; the whole path of another."""
        return str(path).removeprefix(self._above)

    @cached_property
    def _above(self) -> str:
        """What the paths of files below the directory begin with."""
        return str(self.directory / "x")[:-1]

    def key(self, kind: object) -> str:
        """Of a cache entry of this kind: it depends on the files' names, sizes and times, and on the labels."""
        labels = [self._labels()] if self.labels_from else []
        content = json.dumps([kind, str(self.directory.resolve()), self._state, *labels])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @cached_property
    def _state(self) -> list[tuple[str, int, int]]:
        return [(self.name(path), *self.storage.state(path)) for path in self.paths]

    def digest(self) -> str:
        """SHA-256 of the names and contents of the files, and of the labels where they are from elsewhere."""
        digest = digest_of_files(self.name, self.paths, self.storage)
        if not self.labels_from:
            return digest
        return hashlib.sha256(json.dumps([digest, self._labels()]).encode()).hexdigest()

    def _labels(self) -> object:
        return [self.labels_from, self.classes, [label for _, label in self.files]]


def load(listing: Listing, request: Request, on_unreadable: str = ERROR, groups: Tensor | None = None) -> Images:
    """The images of a listing, from the cache, or decoded, with the groups (N,) of its files.

    Files that cannot be read are left out where data.fixes drops them or `on_unreadable` is "skip"; otherwise an
    UnreadableError names them all.
    """
    try:
        images, problems = _attempt(listing, request, on_unreadable)
        named = {listing.name(path): reason for path, reason in listing.broken.items()}
        named |= {listing.name(listing.paths[index]): problem.reason for index, problem in problems.items()}
        missed = {name: reason for name, reason in named.items() if printable(name) not in request.dropped}
        if missed and on_unreadable != SKIP:
            raise UnreadableError(request.part, listing.directory, len(listing.files) + len(listing.broken), missed)
    finally:
        listing.storage.close()
    if missed and not request.quiet:
        log.warning(
            "%s: %d image files of part %s cannot be read, and are left out (data.unreadable=skip): %s",
            *(on_one_line(listing.directory), len(missed), request.part, shown(missed)),
        )
    assert images is not None
    kept = [index for index in range(len(listing.files)) if index not in problems]
    return replace(images, groups=None if groups is None else groups[kept], unreadable=named)


def _attempt(listing: Listing, request: Request, on_unreadable: str) -> tuple[Images | None, dict[int, Problem]]:
    """The images that can be read, and by position, why others cannot, which is remembered.

    None where some cannot, and they are not to be left out.
    """
    file = request.cache_dir / "unreadable" / f"{listing.key(['unreadable', *unreadable.versions()])}.json"
    problems = unreadable.recall(file) or {}
    if any(_has_passed(listing, *item) for item in problems.items()):
        problems = {}
    while on_unreadable == SKIP or all(_is_dropped(listing, index, request) for index in problems):
        kept = [index for index in range(len(listing.files)) if index not in problems]
        try:
            return _load(_taken(listing, kept, request.part) if problems else listing, request), problems
        except _Problems as error:  # also of files that could be read before
            problems = problems | {kept[position]: problem for position, problem in error.by_position.items()}
            unreadable.remember(file, problems)
    return None, problems


def _is_dropped(listing: Listing, index: int, request: Request) -> bool:
    return printable(listing.name(listing.paths[index])) in request.dropped


def _has_passed(listing: Listing, index: int, problem: Problem) -> bool:
    """Whether a file that could not be opened can be now."""
    if problem.passing:
        with suppress(OSError):
            listing.storage.read(listing.files[index][0])
            return True
    return False


def _taken(listing: Listing, kept: list[int], part: str) -> Listing:
    """Some files of a listing. Raises DataError where the training part loses a class, or another one all images."""
    files = [listing.files[index] for index in kept]
    left = {label for _, label in files}
    lost = [name for label, name in enumerate(listing.classes) if label not in left]
    if not files or (lost and part == "train"):
        raise DataError(
            f"{on_one_line(listing.directory)}: no image of {', '.join(lost)} in part {part} can be read; repair some,"
            " or remove the class"
        )
    return replace(listing, files=files)


def _load(listing: Listing, request: Request) -> Images:
    """The images of files that can all be read. Raises _Problems for the others."""
    files, classes = listing.files, listing.classes
    key = listing.key(_format_key(request.format))
    entry = request.cache_dir / "images" / f"{key}.safetensors"

    def parse(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
        images = image_cache.parse(entry, request.in_memory, tensors, metadata)
        return replace(images, names=tuple(printable(listing.name(path)) for path in listing.paths))

    def make() -> None:
        shape = (len(files), 3, request.format.size, request.format.size)
        labels = torch.tensor([label for _, label in files], dtype=torch.int64)
        image_cache.write(entry, shape, labels, classes, _decoded(listing, request.format), listing.digest)

    return checked_file.read_or_make(entry, parse, make, "decoding the images again")


def common_size(listing: Listing, cache_dir: Path) -> int | None:
    """The height and width of all images, None where they are not all square and equal.

    Kept in the cache by the files' names, sizes and times.
    """
    file = cache_dir / "sizes" / f"{listing.key('sizes')}.json"
    with suppress(OSError, ValueError):
        recorded = json.loads(file.read_bytes())
        return recorded if isinstance(recorded, int) else None
    size, is_certain = common_side(listing.paths, listing.storage)
    if is_certain:  # else another answer is possible next time, as with pillow-heif
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileError):  # it only saves reading the headers again
            write_atomically(file, json.dumps(size).encode())
    return size


def _format_key(format: InputFormat) -> object:
    """What of an input format is part of a key; that of former versions is as they wrote it."""
    return format.size if format == InputFormat() else asdict(format)


class _Problems(Exception):
    """Files that cannot be read, by their positions."""

    def __init__(self, by_position: dict[int, Problem]) -> None:
        super().__init__(by_position)
        self.by_position = by_position


def _decoded(listing: Listing, format: InputFormat) -> Iterator[Block]:
    """Blocks of images, decoded in threads, with a progress bar; logs once how many images were changed.

    Raises _Problems where files cannot be read, when all have been decoded.
    """
    paths = listing.paths
    counts: Counter[str] = Counter()
    problems: dict[int, Problem] = {}
    shape = (len(paths), 3, format.size, format.size)
    with (
        ThreadPoolExecutor(available_cores()) as pool,
        tqdm(total=len(paths), desc="decoding images", unit="image", disable=None) as bar,
    ):
        for start in range(0, len(paths), rows_of(shape)):
            chosen = paths[start : start + rows_of(shape)]
            pixels = np.empty((len(chosen), *shape[1:]), np.uint8)
            digests = np.empty((len(chosen), SIZE), np.uint8)
            for index, image in enumerate(_in_order(pool, chosen, format, listing.storage)):
                bar.update()
                if isinstance(image, Unreadable):
                    problems[start + index] = Problem(image.problem, image.passing)
                    continue
                pixels[index] = image.pixels.transpose(2, 0, 1)
                digests[index] = np.frombuffer(image.digest, np.uint8)
                counts.update(image.changes)
            if not problems:
                yield Block(torch.from_numpy(pixels), torch.from_numpy(digests))
    if problems:
        raise _Problems(problems)
    for change, count in counts.items():
        log.info("%d of %d images %s", count, len(paths), change)


def _in_order(
    pool: ThreadPoolExecutor, paths: list[Path], format: InputFormat, storage: Storage
) -> Iterator[Decoded | Unreadable]:
    """The images of these files, or why one cannot be read. An error ends what is still to be decoded."""

    is_ended = Event()

    def attempt(path: Path) -> Decoded | Unreadable:
        try:
            return decode(path, format, storage)
        except Unreadable as problem:
            return problem

    def attempt_all(chunk: Sequence[Path]) -> list[Decoded | Unreadable]:
        return [attempt(path) for path in chunk if not is_ended.is_set()]

    size = min(MOST_AT_ONCE, -(-len(paths) // (4 * available_cores())))
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    try:
        yield from chain.from_iterable(pool.map(attempt_all, chunks))
    except BaseException:
        is_ended.set()
        pool.shutdown(cancel_futures=True)
        raise

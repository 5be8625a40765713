"""Images in folders: <data.root>/<part>/<class>/*, decoded once and cached.

A cache entry is one safetensors file, <cache>/images/<key>.safetensors: images uint8 (N, 3, 32, 32) and labels int64
(N,), and as metadata the class names (JSON), the fingerprint and the version of the rules of decode.py.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from cifar.data import checked_file
from cifar.data.decode import DECODING, decode, decoded_as_before
from cifar.data.file_digest import digest_of_files
from cifar.data.images import SIZE, Images, fingerprint_of, from_arrays
from cifar.data.listing import LabelledFile, list_images
from cifar.data.request import Request
from cifar.files import FileError
from cifar.options.data import Data

log = logging.getLogger(__name__)


def image_folder(option: Data, request: Request) -> Images:
    """The images in root/part/<class>/*, mapped from the cache, which is keyed by the files' names, sizes and times.

    Raises DataError as list_images does, and for images that cannot be decoded.
    """
    directory = Path(option.root or "").expanduser()
    files, classes = list_images(directory / request.part, request.part)
    entry = request.cache_dir / "images" / f"{_cache_key(directory, files)}.safetensors"

    def parse(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
        images = _parse(tensors, metadata)
        if images.classes != classes or metadata.get("decoding", DECODING) != DECODING:
            raise checked_file.Outdated
        if "decoding" not in metadata:
            _check_former(files)
            images = replace(images, files=digest())
            with suppress(FileError):  # saves the next run this check
                _write(entry, images)
        return images

    def make() -> None:
        _write(entry, replace(_decode(files, classes), files=digest()))

    def digest() -> str:
        return digest_of_files(directory, (path for path, _ in files))

    return checked_file.read_or_make(entry, parse, make, "decoding the images again")


def _cache_key(directory: Path, files: list[LabelledFile]) -> str:
    state = []
    for path, _ in files:
        status = path.stat()
        state.append((str(path.relative_to(directory)), status.st_size, status.st_mtime_ns))
    content = json.dumps([SIZE, str(directory.resolve()), state])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _write(entry: Path, images: Images) -> None:
    metadata = {"classes": json.dumps(images.classes), "fingerprint": images.fingerprint, "decoding": DECODING}
    if images.files is not None:
        metadata["files"] = images.files
    checked_file.write(entry, {"images": images.images, "labels": images.labels}, metadata)


def _parse(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
    """The images in a cache file. Raises KeyError or ValueError where it is damaged."""
    images = tensors["images"]
    labels = tensors["labels"]
    classes = tuple(json.loads(metadata["classes"]))
    fingerprint = fingerprint_of(images, labels, classes)
    checked_file.check_digest(fingerprint, metadata["fingerprint"])
    return Images(images, labels, classes, fingerprint, metadata.get("files"))


def _check_former(files: list[LabelledFile]) -> None:
    """Raises Outdated where earlier versions decoded one of the files differently."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        unchanged = all(pool.map(decoded_as_before, [path for path, _ in files]))
        pool.shutdown(cancel_futures=True)
    if not unchanged:
        raise checked_file.Outdated


def _decode(files: list[LabelledFile], classes: tuple[str, ...]) -> Images:
    """Decode in threads, with a progress bar; log once how many images were changed, and in what way."""
    pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    counts: Counter[str] = Counter()

    def decode_one(index: int) -> list[str]:
        path, _ = files[index]
        pixels[index], changes = decode(path)
        return changes

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(decode_one, range(len(files)), chunksize=256)
        try:
            for changes in tqdm(results, total=len(files), desc="decoding images", unit="image", disable=None):
                counts.update(changes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for change, count in counts.items():
        log.info("%d of %d images %s", count, len(files), change)
    return from_arrays(pixels, np.array([label for _, label in files]), classes)

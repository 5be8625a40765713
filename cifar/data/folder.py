"""Images in folders: <data.root>/<part>/<class>/*, decoded once and cached.

A cache entry is one safetensors file, <cache>/images/<key>.safetensors: images uint8 (N, 3, 32, 32) and labels int64
(N,), and as metadata the class names (JSON) and the fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cifar.data import checked_file
from cifar.data.file_digest import digest_of_files
from cifar.data.images import SIZE, DataError, Images, fingerprint_of, from_arrays

log = logging.getLogger(__name__)
LabelledFile = tuple[Path, int]
CONVERTED = "converted to RGB (they were grey, transparent or in another mode)"
RESIZED = f"cropped to a square and resized to {SIZE}x{SIZE}"


def image_folder(root: str | None, part: str, cache_dir: Path) -> Images:
    """The images in root/part/<class>/*, mapped from the cache, which is keyed by the files' names, sizes and times.

    Raises DataError for folders without at least two classes, empty classes and files that are no images.
    """
    directory = Path(root or "").expanduser()
    files, classes = _list_files(directory / part)
    entry = cache_dir / "images" / f"{_cache_key(directory, files)}.safetensors"

    def make() -> None:
        images = _decode(files, classes)
        digest = digest_of_files(directory, (path for path, _ in files))
        metadata = {"classes": json.dumps(images.classes), "fingerprint": images.fingerprint, "files": digest}
        checked_file.write(entry, {"images": images.images, "labels": images.labels}, metadata)

    return checked_file.read_or_make(entry, _parse, make, "decoding the images again")


def _cache_key(directory: Path, files: list[LabelledFile]) -> str:
    state = []
    for path, _ in files:
        status = path.stat()
        state.append((str(path.relative_to(directory)), status.st_size, status.st_mtime_ns))
    content = json.dumps([SIZE, str(directory.resolve()), state])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _parse(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
    """The images in a cache file. Raises KeyError or ValueError where it is damaged."""
    images = tensors["images"]
    labels = tensors["labels"]
    classes = tuple(json.loads(metadata["classes"]))
    fingerprint = fingerprint_of(images, labels, classes)
    checked_file.check_digest(fingerprint, metadata["fingerprint"])
    return Images(images, labels, classes, fingerprint, metadata.get("files"))


def _list_files(directory: Path) -> tuple[list[LabelledFile], tuple[str, ...]]:
    """All files below the class directories, with their labels, and the class names. Hidden files do not count."""
    classes = _class_names(directory)
    files = []
    for label, name in enumerate(classes):
        paths = sorted(path for path in (directory / name).rglob("[!.]*") if path.is_file())
        if not paths:
            raise DataError(f"{directory / name}: no images in this class; add some or remove the directory")
        files += [(path, label) for path in paths]
    return files, classes


def _class_names(directory: Path) -> tuple[str, ...]:
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory; data.root must be a directory that holds train/<class>/*")
    classes = tuple(sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[0] != "."))
    if len(classes) < 2:
        content = f"one class ({classes[0]})" if classes else "no class directories"
        raise DataError(f"{directory}: {content}; allowed: at least two directories, one a class, with images in them")
    return classes


def _decode(files: list[LabelledFile], classes: tuple[str, ...]) -> Images:
    """Decode in threads, with a progress bar; log once how many images were converted and resized."""
    pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    counts: Counter[str] = Counter()

    def decode(index: int) -> list[str]:
        path, _ = files[index]
        pixels[index], changes = _decode_file(path)
        return changes

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(decode, range(len(files)), chunksize=256)
        try:
            for changes in tqdm(results, total=len(files), desc="decoding images", unit="image", disable=None):
                counts.update(changes)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for change, count in counts.items():
        log.info("%d of %d images %s", count, len(files), change)
    return from_arrays(pixels, np.array([label for _, label in files]), classes)


def _decode_file(path: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """An image (32, 32, 3) uint8, and what had to be changed for it."""
    from PIL import Image, ImageOps

    changes = []
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if image.mode != "RGB":
                changes.append(CONVERTED)
                image = image.convert("RGB")
            if image.size != (SIZE, SIZE):
                changes.append(RESIZED)
                image = ImageOps.fit(ImageOps.exif_transpose(image), (SIZE, SIZE), Image.Resampling.BILINEAR)
            return np.asarray(image), changes
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be decoded ({error}); repair or remove the file") from None

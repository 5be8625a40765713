"""Images in folders: data.root/<part>/<class>/*, decoded once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from cifar.data.images import SIZE, DataError, Images, fingerprint_of, from_arrays
from cifar.files import write_atomically

log = logging.getLogger(__name__)


def image_folder(root: str | None, part: str, cache: Path) -> Images:
    """root/part/<class>/*: decoded once into `cache`, keyed by the files' names, sizes and times, then mapped."""
    directory = Path(root or "").expanduser()
    files, classes = _list_files(directory / part)
    state = [(str(path.relative_to(directory)), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in files]
    key = hashlib.sha256(json.dumps([SIZE, str(directory.resolve()), state]).encode()).hexdigest()[:32]
    entry = cache / "images" / f"{key}.safetensors"
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{entry}.lock"):
        cached = read_cache(entry)
        if cached is None:
            write_cache(entry, _decode(files, classes))
            cached = read_cache(entry)
    if cached is None:
        raise DataError(f"{entry}: cannot be read back; name another cache.dir")
    return cached


def _list_files(directory: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """All files below the class directories, with their labels, and the class names; hidden files do not count."""
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory; data.root must be a directory that holds train/<class>/*")
    classes = tuple(sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[0] != "."))
    if len(classes) < 2:
        found = f"one class ({classes[0]})" if classes else "no class directories"
        raise DataError(f"{directory}: {found}; allowed: at least two directories, one a class, with images in them")
    files = []
    for label, name in enumerate(classes):
        found_files = sorted(path for path in (directory / name).rglob("[!.]*") if path.is_file())
        if not found_files:
            raise DataError(f"{directory / name}: no images in this class; add some or remove the directory")
        files += [(path, label) for path in found_files]
    return files, classes


def _decode(files: list[tuple[Path, int]], classes: tuple[str, ...]) -> Images:
    """Decode in threads, with a progress bar; say once what was converted."""
    pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
    changes: Counter[str] = Counter()

    def decode(index: int) -> list[str]:
        pixels[index], changed = _decode_file(files[index][0])
        return changed

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(decode, range(len(files)), chunksize=256)
        try:
            for changed in tqdm(done, total=len(files), desc="decoding images", unit="image", disable=None):
                changes.update(changed)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for change, count in changes.items():
        log.info("%d of %d images %s", count, len(files), change)
    return from_arrays(pixels, np.array([label for _, label in files]), classes)


def _decode_file(path: Path) -> tuple[np.ndarray, list[str]]:
    """An image (32, 32, 3) uint8 and what had to be changed for it."""
    from PIL import Image, ImageOps

    changed = []
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if image.mode != "RGB":
                changed.append("converted to RGB (they were grey, transparent or in another mode)")
                image = image.convert("RGB")
            if image.size != (SIZE, SIZE):
                changed.append(f"cropped to a square and resized to {SIZE}x{SIZE}")
                image = ImageOps.fit(ImageOps.exif_transpose(image), (SIZE, SIZE), Image.Resampling.BILINEAR)
            return np.asarray(image), changed
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not an image that can be decoded ({error}); repair or remove the file") from None


def read_cache(entry: Path) -> Images | None:
    """The mapped images of a cache file, or None where it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(entry, framework="pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
            classes, fingerprint = tuple(json.loads(file.metadata()["classes"])), file.metadata()["fingerprint"]
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        log.warning("%s is damaged (%s): decoding the images again", entry, error)
        return None
    if fingerprint != fingerprint_of(images, labels, classes):
        log.warning("%s is damaged (its content is not what was written): decoding the images again", entry)
        return None
    return Images(images, labels, classes, fingerprint)


def write_cache(entry: Path, images: Images) -> None:
    from safetensors.torch import save

    metadata = {"classes": json.dumps(images.classes), "fingerprint": images.fingerprint}
    content = save({"images": images.images, "labels": images.labels}, metadata)
    write_atomically(entry, content)

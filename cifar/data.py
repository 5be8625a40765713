"""Every source of data becomes one thing: Images, all in memory as uint8."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from cifar.files import write_atomically

log = logging.getLogger(__name__)
SIZE = 32
"""Height and width of all images, in pixels."""


class DataError(Exception):
    """Data that cannot be trained on: the message names the place and what to do."""


@dataclass(frozen=True)
class Images:
    """images: uint8 (N, 3, 32, 32) RGB · labels: int64 (N,), indices into classes · fingerprint: SHA-256 of it all."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Images:
        """The images at `indices` (K,), in that order."""
        chosen = torch.from_numpy(np.ascontiguousarray(indices, dtype=np.int64))
        digest = hashlib.sha256(self.fingerprint.encode() + chosen.numpy().tobytes()).hexdigest()
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], fingerprint=digest)


def _images(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Images:
    """From images (N, 32, 32, 3) uint8 and labels (N,)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    numbers = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return Images(pixels, numbers, classes, _fingerprint(pixels, numbers, classes))


def _fingerprint(images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps([list(images.shape), classes]).encode())
    digest.update(labels.numpy().data)
    digest.update(images.numpy().data)
    return digest.hexdigest()


@lru_cache(maxsize=4)
def load(source: str, root: str | None, part: str, cache_dir: str) -> Images:
    """All images of one part ("train" or "test") of a source; the other part is not read.

    Held in memory for the next call. Raises DataError for data that are missing, damaged or of one class.
    """
    return SOURCES[source](root, part, Path(cache_dir).expanduser())


def digits(root: str | None, part: str, cache: Path) -> Images:
    """scikit-learn's digits (UCI, 8x8, 0 to 16), each pixel four by four; a fixed stratified tenth is the test part."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    pixels = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    everything = _images(pixels, bunch.target, tuple("0123456789"))
    return split(everything, 0.1, seed=0)[part == "test"]


def cifar(root: str | None, part: str, dataset: str) -> Images:
    """torchvision's CIFAR10 or CIFAR100 in `root`, downloaded where it is missing."""
    import torchvision.datasets

    original = getattr(torchvision.datasets, dataset)
    place = Path(root or "data").expanduser()
    # torchvision reads the files of both parts to check their MD5: leave it those of this part.
    only = type(dataset, (original,), {"test_list" if part == "train" else "train_list": []})
    try:
        data = only(place, train=part == "train")
    except RuntimeError:
        data = _download(only, place)(train=part == "train")
    return _images(data.data, np.array(data.targets), tuple(data.classes))


def _download(dataset: Any, place: Path) -> Callable[..., Any]:
    """Download under a lock, so that processes that start together do it once."""
    from torchvision.datasets.utils import check_integrity

    archive = place / dataset.filename
    damaged = archive.exists() and not check_integrity(str(archive), dataset.tgz_md5)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".download.lock"):
            dataset(place, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{dataset.__name__} is not in {place} and could not be downloaded from {dataset.url} ({error})."
            + (f" {archive} is there but damaged (MD5 is not {dataset.tgz_md5}): remove it." if damaged else "")
            + f" Put {dataset.filename} into {place} yourself, name another data.root, or use data=digits,"
            " which needs no download."
        ) from None
    return lambda **options: dataset(place, **options)


def image_folder(root: str | None, part: str, cache: Path) -> Images:
    """root/part/<class>/*: decoded once into `cache`, keyed by the files' names, sizes and times, then mapped."""
    directory = Path(root or "").expanduser()
    files, classes = _list_files(directory / part)
    state = [(str(path.relative_to(directory)), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in files]
    key = hashlib.sha256(json.dumps([SIZE, str(directory.resolve()), state]).encode()).hexdigest()[:32]
    entry = cache / "images" / f"{key}.safetensors"
    entry.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{entry}.lock"):
        cached = _read_cache(entry)
        if cached is None:
            _write_cache(entry, _decode(files, classes))
            cached = _read_cache(entry)
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
    return _images(pixels, np.array([label for _, label in files]), classes)


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


def _read_cache(entry: Path) -> Images | None:
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
    if fingerprint != _fingerprint(images, labels, classes):
        log.warning("%s is damaged (its content is not what was written): decoding the images again", entry)
        return None
    return Images(images, labels, classes, fingerprint)


def _write_cache(entry: Path, images: Images) -> None:
    from safetensors.torch import save

    metadata = {"classes": json.dumps(images.classes), "fingerprint": images.fingerprint}
    content = save({"images": images.images, "labels": images.labels}, metadata)
    write_atomically(entry, lambda file: file.write(content))


SOURCES: dict[str, Callable[[str | None, str, Path], Images]] = {
    "cifar10": lambda root, part, cache: cifar(root, part, "CIFAR10"),
    "cifar100": lambda root, part, cache: cifar(root, part, "CIFAR100"),
    "digits": digits,
    "image_folder": image_folder,
}


def split(images: Images, size: float, seed: int) -> tuple[Images, Images]:
    """(rest, part): a stratified random part of `size` images (below 1: a share of them) and the rest, in file order.

    A function of the images' labels, size and seed. Raises DataError where a class or either side is too small.
    """
    from sklearn.model_selection import train_test_split

    count = round(size * len(images)) if size < 1 else int(size)
    smallest = int(torch.bincount(images.labels, minlength=len(images.classes)).min())
    if not len(images.classes) <= count <= len(images) - len(images.classes) or smallest < 2:
        raise DataError(
            f"data.val_size or data.limit={size:g}: cannot take {count} of {len(images)} images in"
            f" {len(images.classes)} classes (the smallest has {smallest}); both sides need one of each class at least"
        )
    labels = images.labels.numpy()
    rest, part = train_test_split(np.arange(len(images)), test_size=count, stratify=labels, random_state=seed)
    return images.take(np.sort(rest)), images.take(np.sort(part))


def limit(images: Images, count: int | None, seed: int) -> Images:
    """A stratified random subset of `count` images; all of them for None or where there are no more."""
    if count is None or count >= len(images):
        return images
    return split(images, count, seed)[1]


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1], from images uint8 (N, 3, H, W)."""
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(images[:, k].flatten(), minlength=256) for k in range(images.shape[1])])
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ values
    std = (shares @ values.square() - mean.square()).clamp_min(0).sqrt()
    return mean.tolist(), std.clamp_min(1 / 255).tolist()

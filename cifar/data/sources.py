"""The sources of images, by the name that data.source gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cifar.data.folder import image_folder
from cifar.data.images import DataError, Images, from_arrays
from cifar.data.split import split

log = logging.getLogger(__name__)


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
    everything = from_arrays(pixels, bunch.target, tuple("0123456789"))
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
    return from_arrays(data.data, np.array(data.targets), tuple(data.classes))


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


SOURCES: dict[str, Callable[[str | None, str, Path], Images]] = {
    "cifar10": lambda root, part, cache: cifar(root, part, "CIFAR10"),
    "cifar100": lambda root, part, cache: cifar(root, part, "CIFAR100"),
    "digits": digits,
    "image_folder": image_folder,
}

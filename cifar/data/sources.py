"""The sources of images, by the name in data.source. Each is a function (option, request) -> Images."""

from __future__ import annotations

import itertools
import logging
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from filelock import FileLock

from cifar.data import content_split
from cifar.data.extended_split import extended_test
from cifar.data.fixes import corrected, grouped, read_fixes
from cifar.data.folder import has_parts
from cifar.data.images import DataError, Images, from_arrays, printable
from cifar.data.listing import image_suffixes
from cifar.data.random_split import split
from cifar.data.request import Request
from cifar.data.split_checks import check_three_parts
from cifar.options.data import Data, ImageFolder

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

log = logging.getLogger(__name__)
Source = Callable[[Data, Request], Images]
"""(option, request) -> the images that are asked for, of the source that the option describes."""


def digits(option: Data, request: Request) -> Images:
    """scikit-learn's digits (UCI, 8x8, 0 to 16); a fixed stratified tenth is the test part.

    Where the size is a multiple of 8, each pixel becomes a square, four by four at 32.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    times = 1 if request.format.size % 8 else request.format.size // 8
    enlarged = grey.repeat(times, axis=1).repeat(times, axis=2)
    pixels = request.format.apply_to_all(np.repeat(enlarged[..., None], 3, axis=3))
    images = from_arrays(pixels, bunch.target, tuple("0123456789"))
    train, test = split(images, 0.1, seed=0)
    return test if request.part == "test" else train


def cifar10(option: Data, request: Request) -> Images:
    """CIFAR-10 in `root`, downloaded where it is missing."""
    return _cifar("CIFAR10", option, request)


def cifar100(option: Data, request: Request) -> Images:
    """CIFAR-100 in `root`, downloaded where it is missing."""
    return _cifar("CIFAR100", option, request)


def _cifar(name: str, option: Data, request: Request) -> Images:
    """torchvision's data set `name`. Raises DataError where it is damaged or cannot be downloaded."""
    import torchvision.datasets

    original = getattr(torchvision.datasets, name)
    directory = Path(option.root or "data").expanduser()
    train = request.part == "train"
    # torchvision reads the files of both parts to check their MD5: leave it those of this part.
    other_files = "test_list" if train else "train_list"
    one_part: type[CIFAR10] = type(name, (original,), {other_files: []})
    try:
        dataset = one_part(directory, train=train)
    except RuntimeError:
        _download(one_part, directory)
        dataset = one_part(directory, train=train)
    pixels = request.format.apply_to_all(dataset.data)
    return from_arrays(pixels, np.array(dataset.targets), tuple(dataset.classes))


def _download(dataset: type[CIFAR10], directory: Path) -> None:
    """Download under a lock, so that of several processes that start together only one downloads."""
    from torchvision.datasets.utils import check_integrity

    archive = directory / dataset.filename
    _check_is_no_folder_of_images(dataset.__name__, directory)
    damaged = archive.exists() and not check_integrity(str(archive), dataset.tgz_md5)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".download.lock"):
            dataset(directory, download=True)
    except (OSError, RuntimeError) as error:
        damage = f" {archive} is there but damaged (MD5 is not {dataset.tgz_md5}): remove it." if damaged else ""
        raise DataError(
            f"{dataset.__name__} is not in {directory} and could not be downloaded from {dataset.url} ({error})."
            f"{damage} Put {dataset.filename} into {directory} yourself, name another data.root, or use data=digits,"
            " which needs no download."
        ) from None


def _check_is_no_folder_of_images(name: str, directory: Path) -> None:
    """Raises DataError where images are in two class folders, which are meant then and are never written to."""
    for place in (directory, directory / "train"):
        files = (file for file in place.glob("[!.]*/*") if file.suffix.lower() in image_suffixes())
        examples = list(itertools.islice({file.parent: file for file in files}.values(), 2))
        if len(examples) == 2:
            raise DataError(
                f"data.root={printable(directory)}: not {name}, but folders of images"
                f" ({' and '.join(map(printable, examples))}); add data=image_folder to train on these, or name another"
                f" data.root, to which {name} is downloaded"
            )


def load(option: Data, request: Request) -> Images:
    """The images that are asked for. Raises DataError for data that are missing, damaged or of one class."""
    fixes = read_fixes(option.fixes)
    request = replace(request, dropped=fixes.dropped())
    read: Source = pkgutil.resolve_name(option.loader)
    if request.part != "val" and takes_test_part(option, request.cache_dir):
        whole = replace(request, part="train", quiet=request.quiet or request.part == "test")
        images = _part(option, grouped(read(option, whole), fixes), request)
    else:
        images = grouped(read(option, request), fixes)
    return corrected(images, fixes, request.part) if request.corrected else images


def _part(option: ImageFolder, images: Images, request: Request) -> Images:
    """The test part of images that came without parts, or the rest of them."""
    if request.known is not None:
        rest, test = extended_test(option.test_size, images, request.known)
    else:
        check_three_parts(images, option.test_size)
        rest, test = content_split.split(images, option.test_size, 0, "test")
    if request.part == "test":
        return replace(test, unreadable={})  # these are of the whole folder
    if not request.quiet:
        log.info(
            "%s has no parts: of its %d images, %d are the test part (data.test_size=%g), by content",
            *(option.root, len(images), len(test), option.test_size),
        )
    return rest


def takes_test_part(option: Data, cache_dir: Path | None = None) -> TypeGuard[ImageFolder]:
    """Whether the test part is some of the images that the loader reads, which came without parts."""
    return isinstance(option, ImageFolder) and option.test_size > 0 and not has_parts(option, cache_dir)


def common_size(option: Data, request: Request) -> int | None:
    """The height and width of all training images, None where they differ or are not square.

    Raises DataError as `load` does.
    """
    if not option.measure:
        return option.own_size
    measure: Callable[[Data, Request], int | None] = pkgutil.resolve_name(option.measure)
    return measure(option, request)

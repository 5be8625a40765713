"""Images in folders: <data.root>/<part>/<class>/*."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cifar.data import decoded
from cifar.data.decoded import Listing
from cifar.data.groups import groups_by_pattern
from cifar.data.images import Images, printable
from cifar.data.listing import list_images
from cifar.data.request import Request
from cifar.options.data import Data
from cifar.options.splits import REGEX


def image_folder(option: Data, request: Request) -> Images:
    """The images in root/part/<class>/*.

    Raises DataError as list_images does, and for images that cannot be decoded.
    """
    listing = _listing(option, request.part)
    images = decoded.load(listing, request)
    if option.groups is None:
        return images
    directory = listing.directory / request.part
    names = [printable(Path(*path.relative_to(directory).parts[1:]).as_posix()) for path in listing.paths]
    return replace(images, groups=groups_by_pattern(option.groups.removeprefix(REGEX), names, request.part))


def common_size(option: Data, request: Request) -> int | None:
    """The height and width of all images of the training part, None where they are not all square and equal.

    Raises DataError as list_images does.
    """
    return decoded.common_size(_listing(option, "train", quiet=True), request.cache_dir)


def has_val(option: Data) -> bool:
    """Whether there is a folder root/val."""
    return (_directory(option) / "val").is_dir()


def has_parts(option: Data) -> bool:
    """Whether the folder has a folder for each part, and not one for each class."""
    return (_directory(option) / "train").is_dir()


def _listing(option: Data, part: str, quiet: bool = False) -> Listing:
    directory = _directory(option)
    return Listing(directory, *list_images(directory / part if has_parts(option) else directory, part, quiet))


def _directory(option: Data) -> Path:
    return Path(option.root or "").expanduser()

"""Images in folders: <data.root>/<part>/<class>/*."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cifar.data import decoded
from cifar.data.decoded import Listed, Listing
from cifar.data.groups import groups_by_pattern
from cifar.data.images import Images, printable
from cifar.data.listing import Walk, list_images
from cifar.data.request import Request
from cifar.options.data import Data
from cifar.options.splits import REGEX


def image_folder(option: Data, request: Request) -> Images:
    """The images in root/part/<class>/*.

    Raises DataError as list_images does, and for images that cannot be decoded.
    """
    listing = _listing(option, request.part)
    images = decoded.load(listing, request)
    return images if option.groups is None else replace(images, groups=_groups(option.groups, listing, request.part))


def listed(option: Data, part: str) -> Listed | None:
    """The files of one part, readable or not; None where there is no such part. Raises DataError as list_images does."""
    directory = _directory(option)
    if part != "train" and not (directory / part).is_dir():
        return None
    listing = Listing(directory, *list_images(directory / part, part, walk=Walk(tolerant=True)))
    return Listed(listing, None if option.groups is None else _groups(option.groups, listing, part))


def _groups(groups: str, listing: Listing, part: str) -> Tensor:
    """int64 (N,): the groups of files by data.groups. Raises DataError as groups_by_pattern does."""
    directory = listing.directory / part
    names = [printable(Path(*path.relative_to(directory).parts[1:]).as_posix()) for path in listing.paths]
    return groups_by_pattern(groups.removeprefix(REGEX), names, part)


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

"""Images in folders: <data.root>/<part>/<class>/*."""

from __future__ import annotations

from pathlib import Path

from cifar.data import decoded
from cifar.data.decoded import Listing
from cifar.data.images import Images
from cifar.data.listing import list_images
from cifar.data.request import Request
from cifar.options.data import Data


def image_folder(option: Data, request: Request) -> Images:
    """The images in root/part/<class>/*.

    Raises DataError as list_images does, and for images that cannot be decoded.
    """
    return decoded.load(_listing(option, request.part), request)


def common_size(option: Data, request: Request) -> int | None:
    """The height and width of all images of the training part, None where they are not all square and equal.

    Raises DataError as list_images does.
    """
    return decoded.common_size(_listing(option, "train", quiet=True), request.cache_dir)


def has_val(option: Data) -> bool:
    """Whether there is a folder root/val."""
    return (_directory(option) / "val").is_dir()


def _listing(option: Data, part: str, quiet: bool = False) -> Listing:
    directory = _directory(option)
    return Listing(directory, *list_images(directory / part, part, quiet))


def _directory(option: Data) -> Path:
    return Path(option.root or "").expanduser()

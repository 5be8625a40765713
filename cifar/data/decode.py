"""Image files of data sets, decoded by the rules of cifar.data.preprocessing, and what their headers say."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data import preprocessing
from cifar.data.digests import digest_of
from cifar.data.images import DataError, on_one_line
from cifar.data.preprocessing import DAMAGE, FORMER, ImageError, InputFormat

DECODING = "2"
"""The version of the rules, which cache entries record."""


class Decoded(NamedTuple):
    """pixels (size, size, 3), what was changed in them, and the digest of the image at its own size."""

    pixels: NDArray[np.uint8]
    changes: list[str]
    digest: bytes


def decode(path: Path, format: InputFormat = FORMER) -> Decoded:
    """An image file in this format. Raises DataError where it cannot be decoded."""
    try:
        content = path.read_bytes()
        image, changes = preprocessing.upright(BytesIO(content), format)
    except OSError as error:
        raise DataError(f"{on_one_line(path)}: cannot be read ({error.strerror}); repair or remove it") from None
    except ImageError as error:
        raise DataError(f"{on_one_line(path)}: {on_one_line(str(error))}") from None
    formatted = format.apply(image)
    if formatted is not image:
        changes.append(format.change)
    return Decoded(np.asarray(formatted), changes, digest_of(content, image))


def common_side(paths: Iterable[Path]) -> int | None:
    """The height and width of all images, in pixels; None where they are not square and equal.

    It reads the headers alone, to the first image that differs.
    """
    side = None
    for path in paths:
        try:
            with Image.open(path) as file:
                width, height = file.size
        except DAMAGE:
            return None  # decoding the file says what is wrong
        if width != height or side not in (None, width):
            return None
        side = width
    return side

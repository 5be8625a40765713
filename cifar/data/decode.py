"""Image files of data sets, decoded by the rules of cifar.data.preprocessing, and what their headers say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data import preprocessing
from cifar.data.images import DataError, on_one_line
from cifar.data.preprocessing import DAMAGE, FORMER, FORMER_SIZE, ImageError, InputFormat, transposition_of

DECODING = "2"
"""The version of the rules, which cache entries record. Entries without one are of version 1."""
UNCHANGED_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
"""The modes that version 1 decoded as these rules do, where nothing is transparent."""


def decode(path: Path, format: InputFormat = FORMER) -> tuple[NDArray[np.uint8], list[str]]:
    """An image (size, size, 3), and what was changed in it. Raises DataError where it cannot be decoded."""
    try:
        return preprocessing.decode(path, format)
    except ImageError as error:
        raise DataError(f"{on_one_line(path)}: {on_one_line(str(error))}") from None


def decoded_as_before(path: Path) -> bool:
    """Whether version 1 surely decoded this file as these rules do. It reads little more than the header."""
    try:
        with Image.open(path) as file:
            if file.mode not in UNCHANGED_MODES or file.has_transparency_data:
                return False
            # Version 1 turned images of other sizes too.
            return file.size != (FORMER_SIZE, FORMER_SIZE) or transposition_of(file) is None
    except DAMAGE:  # decoding the file says what is wrong
        return False


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

"""One image file as RGB pixels of 8 bits in an input format, by rules that depend on that file alone.

values        16-bit integers: divided by 257 (12-bit ones: by 4095 / 255)
              32-bit integers: as those of 16 bits; where not all are in [0, 65535]: scaled from the lowest (0) to the
              highest (255) of the image
              floats in [0, 1]: times 255; other floats are refused
transparency  on white
orientation   turned upright, as EXIF says
size          as the input format says; by default cropped to a square in the centre and resized to 32x32
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data.images import DataError, printable
from cifar.data.request import FORMER_SIZE, InputFormat

CONVERTED = "converted to RGB (they were grey, transparent or in another mode)"
OPAQUE = "had transparent pixels: put on white"
UPRIGHT = "were turned upright, as their EXIF orientation says"
SCALED = {
    "16 bits": "had integers of up to 16 bits: divided by 257",
    "12 bits": "had integers of 12 bits: scaled to 8",
    "range": "had integers outside [0, 65535]: scaled from the range of each image",
    "floats": "had floats in [0, 1]: multiplied by 255",
}
"""What was done to an image, by the kind of its values."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # photographs of 100 megapixels are fine
FORMER = InputFormat()
DECODING = "2"
"""The version of these rules, which cache entries record. Entries without one are of version 1."""
UNCHANGED_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
"""The modes that version 1 decoded as these rules do, where nothing is transparent."""
DAMAGE = (
    *(
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RuntimeError,
    ),
    *(MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises for damaged files."""
ORIENTATION = 0x0112
BITS_PER_SAMPLE = 258
SAMPLE_FORMAT = 339
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""TIFF tags; the format is 1 for unsigned integers. Pillow gives those of 32 bits as signed ones."""
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation."""


def decode(path: Path, format: InputFormat = FORMER) -> tuple[NDArray[np.uint8], list[str]]:
    """An image (size, size, 3), and what was changed in it. Raises DataError where it cannot be decoded."""
    try:
        with Image.open(path) as file:
            _reduce(file, format)
            file.load()  # TIFFs are turned upright here, and then have no orientation any more
            image, changes = _to_rgb(file)
            transposition = _transposition(file)
    except UnusableValues as error:
        raise DataError(f"{printable(path)}: {error}") from None
    except DAMAGE as error:
        problem = str(error) or type(error).__name__
        raise DataError(
            f"{printable(path)}: not an image that can be decoded ({printable(problem)}); repair or remove the file"
        ) from None
    if transposition is not None:
        changes.append(UPRIGHT)
        image = image.transpose(transposition)
    formatted = format.apply(image)
    if formatted is not image:
        changes.append(format.change)
    return np.asarray(formatted), changes


def _reduce(file: Image.Image, format: InputFormat) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8, where that is still twice as large as needed: it is faster.

    Not in the format of former versions, whose pixels stay what they are.
    """
    if file.format == "JPEG" and format != FORMER:
        share = 2 * format.scale(file.size)
        file.draft(None, (math.ceil(file.width * share), math.ceil(file.height * share)))


class UnusableValues(Exception):
    """Values that no rule brings to 8 bits. The message says which, what is allowed and what to do."""


def decoded_as_before(path: Path) -> bool:
    """Whether version 1 surely decoded this file as these rules do. It reads little more than the header."""
    try:
        with Image.open(path) as file:
            if file.mode not in UNCHANGED_MODES or file.has_transparency_data:
                return False
            # Version 1 turned images of other sizes too.
            return file.size != (FORMER_SIZE, FORMER_SIZE) or _transposition(file) is None
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


def _to_rgb(file: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image as RGB, opaque, and what was changed for that."""
    changes = [] if file.mode == "RGB" else [CONVERTED]
    image = file
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        image, change = _to_8_bits(file)
        changes.append(change)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            changes.append(OPAQUE)
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB"), changes


def _to_8_bits(file: Image.Image) -> tuple[Image.Image, str]:
    """A grey image of more than 8 bits as L or LA, and what was done to its values. Raises UnusableValues."""
    values = np.asarray(file)
    tags = getattr(file, "tag_v2", None) or {BITS_PER_SAMPLE: (16,), SAMPLE_FORMAT: (2,)}  # of TIFFs, and of others
    if file.mode == "I" and tags.get(SAMPLE_FORMAT, (1,)) in (1, (1,)):
        values = values.view(np.uint32)
    if file.mode.startswith("I;16") and tags.get(BITS_PER_SAMPLE) in (12, (12,)):
        pixels, kind = np.rint(values * (255 / 4095)).astype(np.uint8), "12 bits"
    else:
        pixels, kind = _scaled(values)
    if tags.get(PHOTOMETRIC) in (WHITE_IS_ZERO, (WHITE_IS_ZERO,)):
        pixels = 255 - pixels
    image = Image.fromarray(pixels)
    if "transparency" in file.info:  # a PNG of 16 bits names one value that is transparent
        visible = values != file.info["transparency"]
        image.putalpha(Image.fromarray(visible.astype(np.uint8) * 255))
    return image, SCALED[kind]


def _scaled(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], str]:
    """Integers or floats (H, W) as 0 to 255, rounded, and which rule was applied. Raises UnusableValues."""
    numbers = values.astype(np.float64)
    low = float(numbers.min())
    high = float(numbers.max())
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise UnusableValues(
                f"it has floats from {low:g} to {high:g}; allowed: floats in [0, 1], which become 0 to 255, or integers"
                " of 8 or 16 bits; scale the values of all images in the same way and save them again"
            )
        return np.rint(numbers * 255).astype(np.uint8), "floats"
    if low >= 0 and high <= 65535:
        return np.rint(numbers / 257).astype(np.uint8), "16 bits"
    return np.rint((numbers - low) * (255 / max(high - low, 1))).astype(np.uint8), "range"


def _transposition(file: Image.Image) -> Image.Transpose | None:
    """What turns an image upright; None where its EXIF data say nothing or are damaged."""
    try:
        return TRANSPOSITIONS.get(file.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        return None

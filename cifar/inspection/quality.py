"""What is measured of one image: its size, brightness, contrast and sharpness, at its own size or a smaller one.

Own measures of a few lines: CleanVision decodes each file once for each of its kinds and needs pandas tables, and its
thresholds take 32-pixel images for blurred.
"""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data import preprocessing
from cifar.data.decode import one_at_a_time
from cifar.data.digests import digest_of
from cifar.data.preprocessing import DAMAGE, ImageError, InputFormat

SIDE = 32
"""Height and width of the small image that near duplicates are looked for with."""
MEASURED = 256
"""Pixels of the longer side of larger images when sharpness is measured."""
TILES = 4
"""Sharpness is that of the sharpest of TILES x TILES parts: a blurred background is no fault."""
LEAST_TILE = 8
"""The least height and width of such a part, in pixels."""
NOISE = 100.0
"""Variance of grey values (0 to 255) that counts as none: what rounding leaves of a smooth area is not sharp."""
SIDEWAYS = {
    *(Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270),
    *(Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE),
}
"""What exchanges width and height."""
REDUCED = InputFormat(MEASURED)
"""JPEGs are decoded at 1/2, 1/4 or 1/8 where that is still twice as large as measured."""


class Measures(NamedTuple):
    """width, height: upright, in pixels · mode, format: Pillow's, as "RGBA" and "PNG"; "" where there is no file

    dark: the brightness (0 to 1) that 99% of the pixels are below · bright: that 95% are above · contrast: the range of
    98% of the pixels (0 to 1) · sharpness: see `sharpness` · digest: as cifar.data.digests gives it.
    """

    width: int
    height: int
    mode: str
    format: str
    dark: float
    bright: float
    contrast: float
    sharpness: float
    digest: bytes


class Measured(NamedTuple):
    """The measures of an image, and the image stretched to SIDE x SIDE pixels, uint8 (SIDE, SIDE, 3)."""

    measures: Measures
    small: NDArray[np.uint8]


def measured_file(content: bytes) -> Measured:
    """The content of an image file, decoded once. Raises ImageError where it cannot be decoded."""
    if not content:
        raise ImageError("an empty file of 0 bytes", "repair or remove the file")
    try:
        with preprocessing.open_image(BytesIO(content)) as file:
            mode, format, size = file.mode, file.format or "", file.size
            transposition = preprocessing.transposition_of(file)
            turned = transposition in SIDEWAYS and format != "TIFF"  # of which Pillow gives the size upright
    except DAMAGE:
        mode, format, size, turned = "", "", (0, 0), False  # decoding it says what is wrong
    with one_at_a_time() as wait:
        image, _ = preprocessing.upright(BytesIO(content), REDUCED, ready=wait)
        width, height = (size[1], size[0]) if turned else size
        return _measured(image, (width, height), mode, format, digest_of(content, image))


def measured_pixels(pixels: NDArray[np.uint8], digest: bytes) -> Measured:
    """An RGB image (H, W, 3)."""
    image = Image.fromarray(pixels)
    return _measured(image, image.size, "", "", digest)


def _measured(image: Image.Image, size: tuple[int, int], mode: str, format: str, digest: bytes) -> Measured:
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    grey = image.convert("L")
    low, dim, light, high = quantiles(grey.histogram(), (0.01, 0.05, 0.99, 0.99))
    grey.thumbnail((MEASURED, MEASURED), Image.Resampling.BILINEAR)
    sharp = sharpness(np.asarray(grey, np.float32))
    return Measured(Measures(*size, mode, format, light, dim, high - low, sharp, digest), np.asarray(small))


def quantiles(histogram: list[int], shares: tuple[float, ...]) -> list[float]:
    """The brightness, 0 to 1, that these shares of the pixels are at most."""
    sums = np.cumsum(histogram)
    return [float(np.searchsorted(sums, share * sums[-1])) / 255 for share in shares]


def sharpness(grey: NDArray[np.float32]) -> float:
    """The variance of the Laplacian relative to that of the pixels, in the sharpest part of a grey image (H, W).

    The spectrum of photographs has no scale (Field 1987), so this hardly depends on the size; blur lowers it a lot.
    """
    if min(grey.shape) < 3:
        return 1.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    rows, columns = (max(1, min(TILES, side // LEAST_TILE)) for side in inner.shape)
    values = [0.0]
    for band, edges in zip(np.array_split(inner, rows), np.array_split(laplacian, rows), strict=True):
        for part, edge in zip(np.array_split(band, columns, 1), np.array_split(edges, columns, 1), strict=True):
            values.append(float(edge.var() / (part.var() + NOISE)))
    return max(values)

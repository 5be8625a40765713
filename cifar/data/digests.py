"""A digest of what an image shows, at its own size, whatever its file is called and whoever else is in the data.

Of JPEGs it is that of the compressed data and the orientation: they are never decoded at their whole size for it. Of
all other images it is that of the upright pixels (RGB). Comments, dates and other metadata do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data.preprocessing import DAMAGE, ORIENTATION

SIZE = 16
"""Bytes of a digest."""
JPEG, SCAN = b"\xff\xd8", 0xDA
"""The first bytes of a JPEG, and the marker after which the compressed data begin."""
METADATA = {0xFE, *range(0xE1, 0xEE), 0xEF}
"""Markers of comments and of what programs add. APP0 and APP14 (JFIF, Adobe) say how colours are stored."""


def digest_of(content: bytes, image: Image.Image) -> bytes:
    """Of the content of a file, and of the upright image that it holds."""
    if content.startswith(JPEG):
        return _digest([b"JPEG", str(_orientation(content)).encode(), *_segments(content)])
    return digest_of_pixels(np.asarray(image))


def digest_of_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """Of RGB pixels (H, W, 3)."""
    return _digest([repr(pixels.shape).encode(), np.ascontiguousarray(pixels).tobytes()])


def _digest(parts: list[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _segments(content: bytes) -> Iterator[bytes]:
    """The segments of a JPEG without metadata; from the first scan on, all that follows. (ISO/IEC 10918-1, B.1.1)"""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == SCAN:
            break
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker not in METADATA:
            yield content[position:end]
        position = end
    yield content[position:]


def _orientation(content: bytes) -> int:
    try:
        with Image.open(BytesIO(content)) as file:
            return int(file.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        return 1

"""A digest of what an image shows, at its own size, whatever its file is called and whoever else is in the data.

Of JPEGs it is that of the compressed data and the orientation: they are never decoded at their whole size for it.
Of WebP, AVIF and HEIC it is that of the whole file, as their pixels differ between the versions of their decoders. Of
all other images it is that of the upright pixels (RGB). Comments, dates and other metadata do not count in these, nor
in JPEGs what follows the image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data.preprocessing import DAMAGE, ORIENTATION

SIZE = 16
"""Bytes of a digest."""
JPEG, SCAN, END = b"\xff\xd8", 0xDA, 0xD9
"""The first bytes of a JPEG, the marker after which compressed data begin, and that of the end of the image."""
APP1 = b"\xff\xe1"
ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers that no length follows."""
MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker in compressed data that ends them: 0xFF there is followed by 0x00, and restart markers belong to them."""
RIFF, WEBP = b"RIFF", b"WEBP"
FTYP = b"ftyp"
"""Bytes 4 to 8 of AVIF, HEIC and other files of ISO/IEC 14496-12."""
METADATA = {0xFE, *range(0xE1, 0xEE), 0xEF}
"""Markers of comments and of what programs add. APP0 and APP14 (JFIF, Adobe) say how colours are stored."""


def digest_of(content: bytes, image: Image.Image) -> bytes:
    """Of the content of a file, and of the upright image that it holds."""
    if content.startswith(JPEG):
        return _digest([b"JPEG", str(_orientation(content)).encode(), *_segments(content)])
    if content[4:8] == FTYP or (content.startswith(RIFF) and content[8:12] == WEBP):
        return _digest([b"file", content])
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
    """The segments of a JPEG without metadata, and its compressed data, to its end. (ISO/IEC 10918-1, B.1.1)"""
    position = 2
    while position + 2 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == END:
            return
        if marker == 0xFF or marker in ALONE:  # a fill byte
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == SCAN:
            after = MARKER.search(content, end)
            end = after.start() if after else len(content)
        if marker not in METADATA:
            yield content[position:end]
        position = end
    yield content[position:]  # damaged, or cut off


def _orientation(content: bytes) -> int:
    if APP1 not in content:  # the segments of EXIF and XMP; Pillow would parse all headers once more to see that
        return 1
    try:
        with Image.open(BytesIO(content)) as file:
            return int(file.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        return 1

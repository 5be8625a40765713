"""What brings one image file to the input of a model: RGB pixels of 8 bits, by rules that depend on that file alone.

values        16-bit integers: divided by 257 (12-bit ones: by 4095 / 255)
              32-bit integers: as those of 16 bits; where not all are in [0, 65535]: scaled from the lowest (0) to the
              highest (255) of the image
              floats in [0, 1]: times 255; other floats are refused
transparency  on white
orientation   turned upright, as EXIF says
size          as the input format says; by default cropped to a square in the centre and resized to 32x32

Needs NumPy and Pillow alone, as exported models are accompanied by a copy of this file; for HEIC also pillow-heif.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Fit = Callable[[Image.Image, tuple[int, int], Image.Resampling], Image.Image]
FORMER_SIZE = 32
"""Pixels of the images of versions that knew no other size; their cache entries are used."""
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
HEIF_SUFFIXES = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif"))
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
"""What is in bytes 8 to 11 of a HEIC or HEIF file."""


class ImageError(Exception):
    """An image that cannot be used: `problem` says why, `remedy` what to do with its file, which is not named."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return "; ".join(filter(None, self.args))


class HeifError(ImageError):
    """A HEIC or HEIF file, where pillow-heif is not installed."""


@dataclass(frozen=True)
class InputFormat:
    """Images of `size` x `size` pixels.

    fit  crop     the shorter side becomes `resize` pixels (None: `size`), then the centre is cut out
         stretch  both sides become `size` pixels
         pad      the longer side becomes `size` pixels, the rest is black
    """

    size: int = FORMER_SIZE
    fit: str = "crop"
    resize: int | None = None
    interpolation: str = "bilinear"

    @property
    def change(self) -> str:
        """What is done to images of other sizes, in words."""
        words = {"crop": "cropped to a square and resized", "stretch": "stretched", "pad": "resized and padded"}
        return f"{words[self.fit]} to {self.size}x{self.size}"

    def change_of(self, size: tuple[int, int]) -> str:
        """What is done to an image of this width and height, in words."""
        is_square = size[0] == size[1] and self.resize in (None, self.size)
        return f"resized to {self.size}x{self.size}" if is_square else self.change

    def scale(self, size: tuple[int, int]) -> float:
        """By what an image of this width and height is scaled; in the direction that is scaled least."""
        if self.fit == "crop":
            return (self.resize or self.size) / min(size)
        return self.size / (min(size) if self.fit == "stretch" else max(size))

    def apply(self, image: Image.Image) -> Image.Image:
        """The image in this format; `image` itself where it has it."""
        if self._is_met(image.size):
            return image
        fits: dict[str, Fit] = {"crop": self._crop, "stretch": _stretch, "pad": _pad}
        return fits[self.fit](image, (self.size, self.size), Image.Resampling[self.interpolation.upper()])

    def _is_met(self, size: tuple[int, ...]) -> bool:
        return size == (self.size, self.size) and self.resize in (None, self.size)

    def _crop(self, image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
        if self.resize in (None, self.size):
            return ImageOps.fit(image, size, resampling)
        side = min(image.size) * self.size / self.resize
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return image.resize(size, resampling, (left, top, left + side, top + side))

    def apply_to_all(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """RGB images (N, H, W, 3) in this format."""
        if self._is_met(pixels.shape[1:3]):
            return pixels
        return np.stack([np.asarray(self.apply(Image.fromarray(image))) for image in pixels])


FORMER = InputFormat()


def decode(
    source: str | PathLike[str] | BinaryIO, format: InputFormat = FORMER, formats: tuple[str, ...] | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """The image in a file (size, size, 3), and what was changed in it. Raises ImageError where it cannot be decoded.

    `formats`: those that Pillow may take the file for, as "PNG"; None: all that it knows.
    """
    image, changes = upright(source, format, formats)
    formatted = format.apply(image)
    if formatted is not image:
        changes.append(format.change_of(image.size))
    return np.asarray(formatted), changes


def at_once(size: tuple[int, int]) -> None:
    """Any image is decoded when it is its turn."""


def upright(
    source: str | PathLike[str] | BinaryIO,
    format: InputFormat,
    formats: tuple[str, ...] | None = None,
    ready: Callable[[tuple[int, int]], None] = at_once,
) -> tuple[Image.Image, list[str]]:
    """The image in a file as RGB, upright, and what was changed in it; not smaller than the format needs.

    JPEGs may be smaller than they are, all others have their own size; `ready` is called with the width and the height
    before memory is needed for them. Raises as `decode` does.
    """
    try:
        with open_image(source, formats) as file:
            _reduce(file, format)
            ready(file.size)
            file.load()  # TIFFs are turned upright here, and then have no orientation any more
            image, changes = _to_rgb(file)
            transposition = transposition_of(file)
    except DAMAGE as error:
        problem = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its text holds the path
            problem = "in no format that Pillow reads"
        elif isinstance(error, Image.DecompressionBombError):
            problem = f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: make it smaller"
        raise ImageError(f"not an image that can be decoded ({problem})", "repair or remove the file") from None
    if transposition is not None:
        changes.append(UPRIGHT)
        image = image.transpose(transposition)
    return image, changes


def open_image(source: str | PathLike[str] | BinaryIO, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The image in a file, not yet decoded. Raises one of DAMAGE, and ImageError for HEIC without pillow-heif."""
    try:
        return Image.open(source, formats=formats)
    except UnidentifiedImageError:
        if formats is not None or not _is_heif(source):
            raise
    if not register_heif():
        raise HeifError("HEIC, which needs pillow-heif", "do: pip install pillow-heif")
    return Image.open(source)


def register_heif() -> bool:
    """Have Pillow read HEIC and HEIF too; False where pillow-heif, which it takes, is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _is_heif(source: str | PathLike[str] | BinaryIO) -> bool:
    """Whether a file begins as those of HEIC and HEIF do."""
    if isinstance(source, (str, PathLike)):
        with open(source, "rb") as file:  # noqa: PTH123  (a copy of this file reads any path)
            start = file.read(12)
    else:
        source.seek(0)
        start = source.read(12)
        source.seek(0)
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS


def transposition_of(file: Image.Image) -> Image.Transpose | None:
    """What turns an image upright; None where its EXIF data say nothing or are damaged."""
    try:
        return TRANSPOSITIONS.get(file.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        return None


def _stretch(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    return image.resize(size, resampling)


def _pad(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """As ImageOps.pad does it, which leaves nothing of an image that is very narrow."""
    width, height = size
    if image.width * height > image.height * width:
        inside = width, max(1, round(image.height / image.width * width))
    else:
        inside = max(1, round(image.width / image.height * height)), height
    padded = Image.new(image.mode, size)
    corner = round((width - inside[0]) / 2), round((height - inside[1]) / 2)
    padded.paste(image.resize(inside, resampling), corner)
    return padded


def _reduce(file: Image.Image, format: InputFormat) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8, where that is still twice as large as needed: it is faster.

    Not in the format of former versions, whose pixels stay what they are.
    """
    if file.format == "JPEG" and format != FORMER:
        share = 2 * format.scale(file.size)
        file.draft(None, (math.ceil(file.width * share), math.ceil(file.height * share)))


def _to_rgb(file: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image as RGB, opaque, and what was changed for that. Raises ImageError."""
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
    """A grey image of more than 8 bits as L or LA, and what was done to its values. Raises ImageError."""
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
    """Integers or floats (H, W) as 0 to 255, rounded, and which rule was applied. Raises ImageError."""
    numbers = values.astype(np.float64)
    low = float(numbers.min())
    high = float(numbers.max())
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"it has floats from {low:g} to {high:g}; allowed: floats in [0, 1], which become 0 to 255, or integers"
                " of 8 or 16 bits",
                "scale the values of all images in the same way and save them again",
            )
        return np.rint(numbers * 255).astype(np.uint8), "floats"
    if low >= 0 and high <= 65535:
        return np.rint(numbers / 257).astype(np.uint8), "16 bits"
    return np.rint((numbers - low) * (255 / max(high - low, 1))).astype(np.uint8), "range"

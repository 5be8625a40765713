"""examples/: a few small images of a run, so that its report shows mistakes without reading the data. At most 1 MB.

val-N.png or .jpg   a validation image at the input size, or at 96 pixels where that is larger; N: its position there
batch.png or .jpg   the first images of the first batch as the network sees them: resized and augmented
index.csv           what each shows and why it was chosen; columns: cifar.predictions.INDEX_COLUMNS

Written when a run was trained to its end, of what predictions.csv says of its best epoch. Test images are not shown:
whoever changes the training after a look at them has no test set any more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cifar import predictions
from cifar.data.images import Images, positions
from cifar.data.pixels import taken
from cifar.files import FileError, cannot_write
from cifar.predictions import BATCH, CONFUSED, LEAST_SURE, MISTAKE, Row

log = logging.getLogger(__name__)

LARGEST = 96
"""Pixels of a side."""
LARGEST_PNG = 48
"""Up to so many pixels images are PNGs; larger ones are JPEGs, which are smaller files."""
MISTAKES, PAIRS, OF_A_PAIR, LEAST_SURE_ONES = 12, 6, 5, 12
FIRST, ACROSS = 32, 8
"""Images of the first batch, and how many stand side by side."""
GAP, GREY = 2, (128, 128, 128)
"""Pixels between these, and their colour."""


def save(folder: Path, rows: Sequence[Row], val: Images, first_images: Tensor) -> None:
    """As `write`, but they are no result: where they cannot be written, a warning says so."""
    try:
        write(folder, rows, val, first_images)
    except FileError as error:
        log.warning("%s; the report will show no images", error)


def write(folder: Path, rows: Sequence[Row], val: Images, first_images: Tensor) -> None:
    """Write the examples of a run; `rows` are what it predicts of the images `val`, `first_images` of its first batch.

    The index is written after the images that it names, and what it does not name is removed then, so that it is true
    at any moment. Raises FileError.
    """
    places = {name: place for place, name in enumerate(val.names or positions(len(val)))}
    chosen = [(kind, row) for kind, row in _chosen(rows) if row.file in places]
    files = _thumbnails(val, sorted({places[row.file] for _, row in chosen}))
    name, batch = _encoded(_side_by_side(first_images), BATCH, first_images.shape[-1])
    lines = [[files[places[row.file]][0], kind, *predictions.cells(row)] for kind, row in chosen]
    lines.append([name, BATCH, *[""] * len(predictions.COLUMNS)])
    _replace(folder, dict([*files.values(), (name, batch)]), lines)


def _chosen(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    for row in predictions.confident_mistakes(rows, MISTAKES):
        yield MISTAKE, row
    for pair in predictions.confused(rows, PAIRS, OF_A_PAIR):
        for row in pair:
            yield CONFUSED, row
    for row in predictions.least_sure(rows, LEAST_SURE_ONES):
        yield LEAST_SURE, row


def _thumbnails(val: Images, places: list[int]) -> dict[int, tuple[str, bytes]]:
    """File name and content of the images at these places."""
    pixels = taken(val.images, torch.tensor(places, dtype=torch.int64))[:]
    named = ((place, image, f"{predictions.VAL}-{place}") for place, image in zip(places, pixels, strict=True))
    return {place: _encoded(_small(image), name, image.shape[-1]) for place, image, name in named}


def _small(pixels: Tensor) -> Image.Image:
    """uint8 (3, H, W) as an image of at most LARGEST pixels."""
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image


def _side_by_side(images: Tensor) -> Image.Image:
    """uint8 (B, 3, H, W) as one picture, by rows."""
    small = [_small(image) for image in images]
    width, height = (side + GAP for side in small[0].size)
    across = min(ACROSS, len(small))
    sheet = Image.new("RGB", (across * width + GAP, -(-len(small) // across) * height + GAP), GREY)
    for place, image in enumerate(small):
        sheet.paste(image, (GAP + place % across * width, GAP + place // across * height))
    return sheet


def _encoded(image: Image.Image, name: str, size: int) -> tuple[str, bytes]:
    """The name of the file and its content, for images of `size` pixels."""
    content = BytesIO()
    if size <= LARGEST_PNG:
        image.save(content, "PNG")
        return f"{name}.png", content.getvalue()
    image.save(content, "JPEG", quality=90)
    return f"{name}.jpg", content.getvalue()


def _put(path: Path, content: bytes) -> None:
    """Without fsync, which would take 0.4 s for all: a report leaves out what a power failure has damaged."""
    if not (path.exists() and path.read_bytes() == content):
        path.write_bytes(content)


def _replace(folder: Path, files: dict[str, bytes], lines: list[list[str]]) -> None:
    try:
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            _put(folder / name, content)
        predictions.write_table(folder / predictions.INDEX, predictions.INDEX_COLUMNS, lines)
        for path in folder.iterdir():
            if path.name not in files and path.name != predictions.INDEX:
                path.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error

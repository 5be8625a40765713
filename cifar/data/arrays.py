"""Images in a NumPy archive (.npz): train_images, train_labels and, optionally, val_ and test_, as MedMNIST has them.

images  uint8 (N, H, W), grey, or (N, H, W, 3), RGB
labels  whole numbers or texts (N,) or (N, 1)
classes, or label_names: optional, texts (C,): the names of the labels 0 to C - 1. Without it, a label is its name

They are read block by block, so they may be larger than the memory, and cached as images of folders are.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from cifar.data import checked_file, image_cache
from cifar.data.digests import SIZE, digest_of_pixels
from cifar.data.image_cache import Block
from cifar.data.images import DataError, Images, positions, printable
from cifar.data.names import named, sorted_names
from cifar.data.pixels import rows_of
from cifar.data.preprocessing import InputFormat
from cifar.data.request import OR_WITHOUT, Request
from cifar.options.data import Data

NAMES = ("classes", "label_names")
"""The arrays of class names, of which there may be one."""
DAMAGE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile and NumPy raise for damaged files. RuntimeError: encrypted, or compressed in an unknown way."""
LAYOUT = "train_images and train_labels, optional val_ and test_"


@dataclass(frozen=True)
class Header:
    """What an array in the archive begins with."""

    shape: tuple[int, ...]
    by_column: bool
    dtype: np.dtype[np.generic]


def arrays(option: Data, request: Request) -> Images:
    """The images of one part. Raises DataError where the file or one of its arrays is not as it has to be."""
    file = _file(option)
    header = _images_header(file, request.part)
    labels, classes = _labels(file, request.part, header.shape[0])
    status = file.stat()
    state = [str(file.resolve()), status.st_size, status.st_mtime_ns, request.part, asdict(request.format)]
    key = hashlib.sha256(json.dumps(["arrays", state]).encode()).hexdigest()[:32]
    entry = request.cache_dir / "images" / f"{key}.safetensors"

    def parse(tensors: dict[str, Tensor], metadata: dict[str, str]) -> Images:
        images = image_cache.parse(entry, request.in_memory, tensors, metadata)
        return replace(images, files=None, names=tuple(f"{request.part}/{name}" for name in positions(len(images))))

    def make() -> None:
        size = request.format.size
        pixels = _blocks(file, f"{request.part}_images", header, request.format)
        image_cache.write(entry, (header.shape[0], 3, size, size), torch.from_numpy(labels), classes, pixels)

    return checked_file.read_or_make(entry, parse, make, "reading the arrays again")


def common_size(option: Data, request: Request) -> int | None:
    """The height and width of the training images, None where they are not square."""
    _, height, width = _images_header(_file(option), "train").shape[:3]
    return height if height == width else None


def has_val(option: Data) -> bool:
    """Whether there is an array val_images."""
    return "val_images" in _names(_file(option))


def _images_header(file: Path, part: str) -> Header:
    """Raises DataError where there are no such images, or not of 8 bits."""
    name = f"{part}_images"
    header = _header(file, name, part)
    shape, place = header.shape, f"{printable(file)}: {name}"
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))) or 0 in shape:
        hint = "; images (N, 3, H, W) become that by images.transpose(0, 2, 3, 1)" if shape[1:2] == (3,) else ""
        raise DataError(f"{place} has the shape {shape}; allowed: (N, H, W), grey, or (N, H, W, 3), RGB{hint}")
    if header.dtype != np.uint8:
        raise DataError(
            f"{place} has the type {header.dtype}; allowed: uint8, 0 to 255; scale all parts in the same way and save"
            " them again: floats in [0, 1] become that by (images * 255).round().astype('uint8')"
        )
    return header


def _labels(file: Path, part: str, count: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,), indices into the class names. Raises DataError where they do not go with the images."""
    name = f"{part}_labels"
    header = _header(file, name, part)
    place = f"{printable(file)}: {name}"
    if header.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{place} has the shape {header.shape}; allowed: ({count},) or ({count}, 1), one label for each of the"
            f" {count} images of {part}_images"
        )
    if header.dtype.kind not in "iubU":
        raise DataError(f"{place} has the type {header.dtype}; allowed: whole numbers, or texts (NumPy's str)")
    values = _array(file, name).reshape(-1)
    labels, classes = _named(file, place, values)
    if part == "train" and len(classes) < 2:
        raise DataError(f"{place}: one class ({classes[0]}); allowed: two or more in the training part")
    return labels, classes


def _named(file: Path, place: str, values: NDArray[np.generic]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as indices into class names: those of the archive, or the labels themselves."""
    names = next((name for name in NAMES if name in _names(file)), None)
    if names is None or values.dtype.kind == "U":
        texts = values.astype(str)
        order = sorted_names(set(texts.tolist()))
        index = {text: position for position, text in enumerate(order)}
        return np.array([index[text] for text in texts.tolist()], np.int64), order
    header = _header(file, names, "train")
    if header.dtype.kind != "U" or len(header.shape) != 1:
        raise DataError(
            f"{printable(file)}: {names} has the type {header.dtype} and the shape {header.shape}; allowed: texts"
            " (NumPy's str) (C,), as np.array(['cat', 'dog']) is"
        )
    classes = [str(name) for name in _array(file, names)]
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= len(classes) or len(set(classes)) < len(classes):
        raise DataError(
            f"{place} is from {low} to {high}, and {names} has {len(set(classes))} different names; allowed: labels"
            f" from 0 to {len(classes) - 1}, and a different name for each"
        )
    return named(values.astype(np.int64), classes)


def _blocks(file: Path, name: str, header: Header, format: InputFormat) -> Iterator[Block]:
    """Blocks of all images, in order."""
    for block in _rows(file, name, header, rows_of((1, *header.shape[1:], 3))):
        grey = block.reshape(*block.shape[:3], -1)
        colour = np.broadcast_to(grey, (*grey.shape[:3], 3))
        digests = b"".join(map(digest_of_pixels, colour))
        pixels = format.apply_to_all(np.ascontiguousarray(colour))
        yield Block(
            torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
            torch.from_numpy(np.frombuffer(digests, np.uint8).copy().reshape(-1, SIZE)),
        )


def _rows(file: Path, name: str, header: Header, count: int) -> Iterator[NDArray[np.uint8]]:
    """The array in blocks of `count` rows; one that is stored by columns is read at once."""
    if header.by_column:
        whole: NDArray[np.uint8] = _array(file, name).astype(np.uint8, copy=False)
        yield from (whole[start : start + count] for start in range(0, len(whole), count))
        return
    size = int(np.prod(header.shape[1:]))
    with _opened(file, name) as stream:
        _read_header(stream)
        for start in range(0, header.shape[0], count):
            rows = min(count, header.shape[0] - start)
            content = stream.read(rows * size)
            if len(content) < rows * size:
                raise EOFError(f"{name} ends early")
            yield np.frombuffer(content, np.uint8).reshape(rows, *header.shape[1:])


def _header(file: Path, name: str, part: str) -> Header:
    """Raises DataError where there is no array of this name."""
    names = _names(file)
    if name not in names:
        remedy = OR_WITHOUT[part]
        raise DataError(
            f"{printable(file)}: no array {name} (it has {', '.join(names) or 'none'}); allowed: {LAYOUT}{remedy}"
        )
    with _opened(file, name) as stream:
        return _read_header(stream)


def _read_header(stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return Header(*read(stream))


def _array(file: Path, name: str) -> NDArray[np.generic]:
    """A whole array, without Python objects."""
    with _opened(file, name) as stream:
        content: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
        return content


def _names(file: Path) -> list[str]:
    with _archive(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextmanager
def _opened(file: Path, name: str) -> Iterator[IO[bytes]]:
    with _archive(file) as archive, archive.open(f"{name}.npy") as stream:
        yield stream


@contextmanager
def _archive(file: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open. Raises DataError where it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except DataError:
        raise
    except DAMAGE as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(
            f"{printable(file)}: {problem}; data.root must be a file that numpy.savez wrote, with {LAYOUT}"
        ) from None


def _file(option: Data) -> Path:
    return Path(option.root or "").expanduser()

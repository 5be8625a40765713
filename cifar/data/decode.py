"""Image files of data sets, decoded by the rules of cifar.data.preprocessing, and what their headers say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar.commands import install
from cifar.data import preprocessing
from cifar.data.digests import digest_of
from cifar.data.images import DataError, on_one_line
from cifar.data.preprocessing import DAMAGE, FORMER, HeifError, ImageError, InputFormat, open_image
from cifar.data.storage import DISK, Storage

DECODING = "3"
"""The version of the rules, which cache entries record."""
LARGE = 2**24
"""Images of more pixels are decoded one at a time. 169 million take up to 1.6 GB; Pillow's limit is 179 million."""
ONE_AT_A_TIME = Lock()


class Decoded(NamedTuple):
    """pixels (size, size, 3), what was changed in them, and the digest of the image at its own size."""

    pixels: NDArray[np.uint8]
    changes: list[str]
    digest: bytes


class Unreadable(DataError):
    """An image file that cannot be read or decoded. `problem`: why, without what to do.

    `passing`: whether it may be readable the next time though it has not changed, as it could not be opened.
    """

    def __init__(self, path: Path, problem: str, remedy: str, passing: bool = False) -> None:
        super().__init__(f"{on_one_line(path)}: {'; '.join(filter(None, (problem, remedy)))}")
        self.problem = problem
        self.passing = passing


def decode(path: Path, format: InputFormat = FORMER, storage: Storage = DISK) -> Decoded:
    """An image file in this format. Raises Unreadable where it cannot be decoded."""
    try:
        content = storage.read(path)
        if not content:
            raise ImageError("not an image that can be decoded (0 bytes)")
        return _decoded(content, format)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise Unreadable(path, problem, "repair or remove it", passing=True) from None
    except HeifError as error:
        raise Unreadable(path, f"{error.problem} ({install('heic')})", "") from None
    except ImageError as error:
        raise Unreadable(path, on_one_line(error.problem), error.remedy) from None
    except DataError as error:
        raise Unreadable(path, str(error).removeprefix(f"{on_one_line(path)}: "), "repair or remove it") from None


def _decoded(content: bytes, format: InputFormat) -> Decoded:
    with one_at_a_time() as wait:
        image, changes = preprocessing.upright(BytesIO(content), format, ready=wait)
        formatted = format.apply(image)
        if formatted is not image:
            changes.append(format.change_of(image.size))
        return Decoded(np.asarray(formatted), changes, digest_of(content, image))


@contextmanager
def one_at_a_time() -> Iterator[Callable[[tuple[int, int]], None]]:
    """Gives what waits, for an image of this width and height, until no other thread has a large one; to the end of the
    block.
    """
    with ExitStack() as stack:

        def wait(size: tuple[int, int]) -> None:
            if size[0] * size[1] > LARGE:
                stack.enter_context(ONE_AT_A_TIME)

        yield wait


class Side(NamedTuple):
    """`pixels`: the height and width of all images; None where they are not square and equal.

    `is_certain`: whether no header was unreadable.
    """

    pixels: int | None
    is_certain: bool


def common_side(paths: Iterable[Path], storage: Storage = DISK) -> Side:
    """What the headers of the images say, to the first image that differs.

    Files without one do not count: decoding them says what is wrong.
    """
    side = None
    is_certain = True
    for path in paths:
        try:
            with storage.open(path) as content, open_image(content) as file:
                width, height = file.size
        except (*DAMAGE, ImageError, DataError):
            is_certain = False
            continue
        if width != height or side not in (None, width):
            return Side(None, True)
        side = width
    return Side(side, is_certain)

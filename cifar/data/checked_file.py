"""Cache files whose content is checked: safetensors files with a SHA-256 of the content in their metadata.

A file that is damaged counts as missing: a warning says so, and whoever reads it makes it again. A file that was found
good is not read through again while its size and times stay as they are: <key>.checked beside it says so.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cifar.files import FileError, write_atomically, writing_atomically

log = logging.getLogger(__name__)
CHECKED = ".checked"
"""The suffix of what notes that a file was checked."""
T = TypeVar("T")
Parse = Callable[[dict[str, Tensor], dict[str, str]], T]
"""Tensors and metadata -> what the file holds.

Raises KeyError or ValueError where the content is not as written, Outdated where it is not used any more.
"""


class Outdated(Exception):
    """The content is as an earlier version of this program wrote it, which would now be written differently."""


def read_or_make(path: Path, parse: Parse[T], make: Callable[[], None], remedy: str) -> T:
    """What `path` holds; `make` writes it first where it is missing or damaged. Of several processes, one makes it.

    `remedy` ends the warning about a damaged file. Raises FileError where it cannot be written or read back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        content = read(path, parse, remedy)
        if content is None:
            make()
            content = read(path, parse, remedy)
    if content is None:
        raise FileError(f"{path}: cannot be read back after it was written; choose another folder with cache.dir=DIR")
    return content


def read(path: Path, parse: Parse[T], remedy: str) -> T | None:
    """What `path` holds, its tensors mapped from the file.

    None where it is missing, outdated or, with a warning, damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            return parse(tensors, file.metadata() or {})
    except FileNotFoundError:
        return None
    except Outdated:
        log.info("%s is of an earlier version: %s", path, remedy)
    except KeyError as error:
        log.warning("%s is damaged (it has no %s): %s", path, error, remedy)
    except (SafetensorError, ValueError, OSError) as error:
        log.warning("%s is damaged (%s): %s", path, error, remedy)
    return None


def write(path: Path, name: str, blocks: Sequence[Tensor], metadata: dict[str, str]) -> None:
    """Write one float32 tensor, given in blocks of rows, atomically and with no copy of it. Raises FileError."""
    shape = [sum(len(block) for block in blocks), *blocks[0].shape[1:]]
    place = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * math.prod(shape)]}
    with writing_atomically(path) as file:
        file.write(header({"__metadata__": metadata, name: place}))
        for block in blocks:
            file.write(block.contiguous().numpy().data)


def header(content: dict[str, object]) -> bytes:
    """The beginning of a safetensors file: what it says of its tensors and their places."""
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_digest(digest: str, recorded: str) -> None:
    """Raises ValueError where the SHA-256 of the content is not the one that was recorded when it was written."""
    if digest != recorded:
        raise ValueError("its content is not what was written")


def check_once(path: Path, recorded: str, compute: Callable[[], str]) -> None:
    """As check_digest, where the file at `path` was not checked before. `compute` gives the digest of its content."""
    if _remembered(path) == _state(path, recorded):
        return
    check_digest(compute(), recorded)
    remember(path, recorded)


def remember(path: Path, digest: str) -> None:
    """Note that the file at `path`, as it is now, has content with this digest."""
    with suppress(FileError):  # it only saves a check
        write_atomically(path.with_suffix(CHECKED), json.dumps(_state(path, digest)).encode())


def _state(path: Path, digest: str) -> dict[str, object]:
    status = path.stat()
    changed = [status.st_size, status.st_mtime_ns, status.st_ino]
    return {"size, time and inode": changed, "sha256": digest}


def _remembered(path: Path) -> object:
    try:
        return json.loads(path.with_suffix(CHECKED).read_bytes())
    except (OSError, ValueError):
        return None


def offset_of(path: Path, name: str) -> int:
    """Where the values of a tensor begin in a safetensors file, in bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length + int(header[name]["data_offsets"][0])

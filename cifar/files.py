"""Atomic writes: after a crash a file is the old one or the new one, never a part of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cifar.errors import UserError


class FileError(UserError):
    """A file cannot be written. The message names the file and the reason."""


def write_atomically(path: Path, content: bytes | memoryview, exclusive: bool = False) -> None:
    """Write `content` to a temporary file beside `path`, fsync it, and rename it to `path`.

    Raises FileError where the disk is full or the directory is not writable; `path` is unchanged then. `exclusive`:
    raises FileExistsError where there is a `path`.
    """
    with writing_atomically(path, exclusive) as file:
        file.write(content)


@contextmanager
def writing_atomically(path: Path, exclusive: bool = False) -> Iterator[BinaryIO]:
    """A file that replaces `path` at the end of the block, as write_atomically does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            _link(temporary, path)
        else:
            temporary.replace(path)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name, which must be new; where the file system has no links, copy it."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:
        with path.open("xb") as file:
            file.write(temporary.read_bytes())


def cannot_write(path: Path, error: OSError) -> FileError:
    """The FileError that says why `path` could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    reason = "the disk is full; free some space and try again" if full else error.strerror or str(error)
    return FileError(f"cannot write {path}: {reason}")

"""Atomic writes, after which a file is the old one or the new one, never a part of it; names of files."""

from __future__ import annotations

import csv
import errno
import io
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cifar.errors import UserError

BEST_TRIAL, CONFIRMED_TRIAL = "best.yaml", "confirmed.yaml"
"""In the folder of a study: its best trial, and the one that its confirmation chose."""


def best_trial_file(study: Path) -> Path | None:
    """What from_study= reads in the folder of a study: of the confirmed trial, else of the best; None without both."""
    return next((study / name for name in (CONFIRMED_TRIAL, BEST_TRIAL) if (study / name).exists()), None)


class FileError(UserError):
    """A file cannot be written. The message names the file and the reason."""


def check_target(option: str, path: Path, folder: bool = False) -> None:
    """Raises FileError where `path` cannot be written: a file, or a folder where `folder`. For before the work.

    `option`: the one that names it.
    """
    parent = path.absolute().parent
    if folder and path.name in ("", ".."):
        raise FileError(f"{option} {path}: allowed: a folder with a name, as it is replaced as a whole")
    try:
        if not parent.is_dir():
            raise FileError(f"{option} {path}: there is no folder {path.parent}; create it first")
        if path.is_symlink():  # it would be replaced, and what it leads to would stay as it is
            raise FileError(f"{option} {path}: a link; allowed: the {'folder' if folder else 'file'} that it leads to")
        if path.exists():
            _check_kind(option, path, folder)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise FileError(
            f"{option} {path}: cannot be written ({error.strerror or error}); allowed: a folder that is writable"
        ) from error


def _check_kind(option: str, path: Path, folder: bool) -> None:
    if folder and not path.is_dir():
        raise FileError(f"{option} {path}: already there, and no folder; allowed: another name")
    if not folder and path.is_dir():
        raise FileError(f"{option} {path}: a folder; allowed: the name of a file")
    if not folder and not path.is_file():
        raise FileError(f"{option} {path}: already there, and no regular file; allowed: another name")


def write_atomically(path: Path, content: bytes | memoryview, exclusive: bool = False) -> None:
    """Write `content` to a temporary file beside `path`, fsync it, and rename it to `path`.

    Raises FileError where the disk is full or the directory is not writable; `path` is unchanged then. `exclusive`:
    raises FileExistsError where there is a `path`.
    """
    with writing_atomically(path, exclusive) as file:
        file.write(content)


def csv_bytes(rows: Iterable[Iterable[Any]], errors: str = "strict") -> bytes:
    """Rows, the head first, as a CSV file in UTF-8. `errors`: how names that are not are written, as in str.encode.

    Lines end as RFC 4180 says: with \\n alone, Python before 3.11.9 leaves a \\r in a cell without quotation marks.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", errors)


def temporary_beside(path: Path, suffix: str = ".tmp") -> Path:
    """A hidden name that no other process has, not even in a container where it has the same number."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{suffix}")


@contextmanager
def writing_atomically(path: Path, exclusive: bool = False) -> Iterator[BinaryIO]:
    """A file that replaces `path` at the end of the block, as write_atomically does."""
    temporary = temporary_beside(path)
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

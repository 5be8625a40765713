"""Where the files of a data set are: on the disk, or in an archive (cifar.data.archive)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cifar.data.images import printable


class Storage:
    """The files of the disk. A subclass has others, under paths below its own."""

    def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    def names(self, folder: Path) -> list[str]:
        """What is in a folder. Raises OSError."""
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]

    def is_dangling(self, path: Path) -> bool:
        """Whether a path is a link to nothing."""
        return path.is_symlink() and not path.exists()

    def problem(self, path: Path) -> str:
        """Why a path is no file that can be opened without waiting for it; empty where it is one."""
        return problem_of(path)

    def read(self, path: Path) -> bytes:
        """The content of a file. Raises OSError, or DataError for a member of an archive that is damaged."""
        return path.read_bytes()

    def open(self, path: Path) -> BinaryIO:
        """A file to read from. Raises as `read` does."""
        return path.open("rb")

    def state(self, path: Path) -> tuple[int, int]:
        """What changes when a file does: its size in bytes, and the time of the last change in ns."""
        status = path.stat()
        return status.st_size, status.st_mtime_ns

    def close(self) -> None:
        """Free what reading takes. The next `read` takes it again."""


DISK = Storage()


def problem_of(path: Path) -> str:
    """Why a path is no file that can be opened without waiting for it; empty where it is one."""
    if os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises for names that are too long)
        return ""
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        with suppress(OSError):
            return f"a link to nothing ({printable(path.readlink())})"
    return "not a regular file" if os.path.exists(path) else "no such file"  # noqa: PTH110

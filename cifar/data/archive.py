"""Data sets in archives, which are read without being unpacked: .zip, .tar, .tar.gz, .tar.bz2 and .tar.xz.

An archive may come from anywhere. One with a member that would lie outside of it, that is there twice, that is neither
file nor folder, or with members that become far larger than the archive, is refused as a whole, by its listing.
"""

from __future__ import annotations

import errno
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from cifar.data.images import DataError, on_one_line
from cifar.data.storage import Storage

ALLOWED = ".zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"
GROWTH = 100
"""An archive may become so many times its size. Photographs do not shrink in one, drawings by up to 20 times."""
ANY_GROWTH = 2**30
"""What every archive may become, in bytes."""
MAX_IMAGE = 2**30
"""Bytes of one image at most, as it is read in one piece."""
MAX_DEPTH = 64
"""Folders that a member may be in."""
DRIVE = re.compile(r"[A-Za-z]:[/\\]")


@dataclass(frozen=True, slots=True)
class Member:
    """`name`: as the archive has it; `place`: by what its reader finds the content.

    `is_folder`; `target`: of a link, where it leads to, from the top of the archive; `problem`: why it is no file that
    can be read, in words.
    """

    name: str
    size: int = 0
    place: int = 0
    is_folder: bool = False
    target: str | None = None
    problem: str = ""


class Reader(Protocol):
    """Reads the members of an archive, in any order and in several threads."""

    def read(self, member: Member) -> bytes:
        """Raises DataError for content that is damaged, OSError where the archive is."""

    def close(self) -> None: ...


class Archive(Storage):
    """The files of an archive, under the path of the archive. `modified`: when that was changed, ns."""

    def __init__(self, path: Path, modified: int, members: dict[str, Member], reader: Reader) -> None:
        self.path = path
        self._modified = modified
        self._members = members
        self._reader = reader
        self._folders = _folders(path, members)

    def is_dir(self, path: Path) -> bool:
        return self._name(path) in self._folders

    def names(self, folder: Path) -> list[str]:
        return list(self._folders[self._name(folder)])

    def is_dangling(self, path: Path) -> bool:
        return bool(self.problem(path))

    def problem(self, path: Path) -> str:
        return self._members[self._name(path)].problem

    def read(self, path: Path) -> bytes:
        member = self._members[self._name(path)]
        if member.size > MAX_IMAGE:
            raise DataError(f"{on_one_line(path)}: {_gigabytes(member.size)}, more than {_gigabytes(MAX_IMAGE)}")
        return self._reader.read(member)

    def open(self, path: Path) -> BinaryIO:
        return BytesIO(self.read(path))

    def state(self, path: Path) -> tuple[int, int]:
        return self._members[self._name(path)].size, self._modified

    def close(self) -> None:
        self._reader.close()

    def _name(self, path: Path) -> str:
        return "" if path == self.path else path.relative_to(self.path).as_posix()


def checked(path: Path, size: int, members: Iterable[Member]) -> dict[str, Member]:
    """The files of an archive of so many bytes by their cleaned names, links replaced by what they lead to.

    Raises DataError for the first member that is not allowed. What comes after that is not read.
    """
    files: dict[str, Member] = {}
    total, most = 0, max(ANY_GROWTH, GROWTH * size)
    for member in members:
        name = _clean(path, member)
        total += member.size
        if total > most:
            raise refused(
                path,
                member.name,
                f"with it, {_gigabytes(total)} would be read from an archive of {_gigabytes(size)}",
                f"{_gigabytes(ANY_GROWTH)}, or {GROWTH} times its size; unpack it, and name the folder",
            )
        if member.is_folder:
            continue
        if name in files:
            raise refused(path, member.name, "there twice", "each name once")
        files[name] = member
    return {name: _followed(path, files, name) for name in files}


def _clean(path: Path, member: Member) -> str:
    """The name of a member without what means nothing: "./" and slashes at its end. Raises DataError."""
    if member.name.startswith("/") or DRIVE.match(member.name):
        raise refused(path, member.name, "an absolute path", "paths below the archive")
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refused(path, member.name, "outside of the archive", "paths below it, without ..")
    if len(parts) > MAX_DEPTH:
        raise refused(path, member.name, f"in {len(parts) - 1} folders", f"up to {MAX_DEPTH}")
    if not parts and not member.is_folder:
        raise refused(path, member.name, "a file without a name", "files with names")
    return "/".join(parts)


def _followed(path: Path, files: dict[str, Member], name: str) -> Member:
    """A member, or the file that it is a link to. Raises DataError for a link out of the archive, or to a folder."""
    member = files[name]
    seen = {name}
    while member.target is not None:
        target = posixpath.normpath(member.target)
        if target.startswith(("/", "..")) or DRIVE.match(target):
            raise refused(path, member.name, f"a link out of the archive ({on_one_line(target)})", "links to its files")
        if target not in files and (target == "." or any(other.startswith(f"{target}/") for other in files)):
            raise refused(path, member.name, f"a link to a folder ({on_one_line(target)})", "links to files")
        if target not in files or target in seen:
            return Member(member.name, problem=f"a link to nothing ({on_one_line(target)})")
        seen.add(target)
        member = files[target]
    return replace(member, name=files[name].name)


def _folders(path: Path, members: dict[str, Member]) -> dict[str, dict[str, None]]:
    """What is in each folder, by its name; the archive itself is "". Raises DataError for a file that is a folder."""
    folders: dict[str, dict[str, None]] = {"": {}}
    for name in members:
        below = name
        while below:
            folder, _, last = below.rpartition("/")
            known = folder in folders
            folders.setdefault(folder, {})[last] = None
            if known:
                break
            below = folder
    for name in folders:
        if name in members:
            raise refused(path, name, "a file and a folder", "each name once")
    return folders


def is_passing(error: BaseException) -> bool:
    """Whether an error is the system's, and may be gone the next time: bz2 raises OSErrors without a number."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def refused(path: Path, member: str, problem: str, allowed: str) -> DataError:
    """The error for a member that is not allowed."""
    return DataError(f"{on_one_line(path)}: member {on_one_line(member)}: {problem}; allowed: {allowed}")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"

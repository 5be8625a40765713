"""The members of a .zip file."""

from __future__ import annotations

import errno
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from cifar.data.archive import Archive, Member, checked, is_passing, refused
from cifar.data.images import DataError, on_one_line
from cifar.data.shared_handle import SharedHandle

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
MAX_TARGET = 4096
"""Bytes of the target of a link."""
ENCRYPTED = 0x1
DOS = 0
"""The system of archives in which a backslash may be what / is elsewhere."""
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile raises for damaged archives and members."""


def open_zip(path: Path) -> Archive:
    """Raises DataError for an archive that is damaged or not allowed."""
    status = path.stat()
    reader = ZipReader(path)
    try:
        members = checked(path, status.st_size, _members(path, reader))
    finally:
        reader.close()
    return Archive(path, status.st_mtime_ns, members, reader)


class ZipReader:
    """Reads the members of a .zip file. `Member.place` is the position in its directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = SharedHandle(self._open)
        self._is_listed = False

    def members(self) -> list[zipfile.ZipInfo]:
        """What its directory lists. Raises DataError for a damaged archive, OSError for one that cannot be read."""
        try:
            with self._file.used() as archive:
                infos = archive.infolist()
        except DAMAGE as error:
            if is_passing(error):
                raise
            raise DataError(
                f"{on_one_line(self._path)}: a damaged .zip file ({error}); copy or make it again"
            ) from None
        self._is_listed = True
        return infos

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except zipfile.BadZipFile as error:
            if self._is_listed:  # it was not damaged then: zipfile says so of errors of the disk too
                raise OSError(errno.EIO, str(error)) from None
            raise

    def read(self, member: Member) -> bytes:
        """The content, whose length and CRC are those that the directory says."""
        try:
            with self._file.used() as archive:
                content = archive.read(archive.infolist()[member.place])
        except DAMAGE as error:
            if is_passing(error):
                raise
            raise DataError(f"{on_one_line(self._path / member.name)}: damaged in the archive ({error})") from None
        if len(content) != member.size:
            raise DataError(
                f"{on_one_line(self._path / member.name)}: {len(content)} bytes, and the archive says {member.size}"
            )
        return content

    def close(self) -> None:
        self._file.close()


def _members(path: Path, reader: ZipReader) -> Iterator[Member]:
    """Raises DataError for members that cannot be read, or that are neither files nor folders nor links."""
    for place, info in enumerate(reader.members()):
        name = info.filename.replace("\\", "/") if info.create_system == DOS else info.filename
        kind = stat.S_IFMT(info.external_attr >> 16)
        if name.endswith("/") or kind == stat.S_IFDIR:
            yield Member(name, is_folder=True)
            continue
        if info.flag_bits & ENCRYPTED:
            raise refused(path, name, "encrypted", "members that need no password; unpack it, and name the folder")
        if info.compress_type not in METHODS:
            raise refused(
                path,
                name,
                f"compressed by a method that Python cannot read ({info.compress_type})",
                "stored, deflate, bzip2 or LZMA; make it again with one of these",
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
            raise refused(path, name, "neither a file nor a folder", "files, folders and links to files")
        member = Member(name, info.file_size, place)
        yield _link(path, reader, member) if kind == stat.S_IFLNK else member


def _link(path: Path, reader: ZipReader, member: Member) -> Member:
    if member.size > MAX_TARGET:
        raise refused(path, member.name, f"a link whose target has {member.size} bytes", f"up to {MAX_TARGET}")
    target = reader.read(member).decode("utf-8", "surrogateescape")
    return Member(member.name, target=posixpath.join(posixpath.dirname(member.name), target))

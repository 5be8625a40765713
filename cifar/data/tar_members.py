"""The members of a .tar file, compressed or not.

A compressed one cannot be read in any order: it is decompressed into a file without a name, which the system removes
when it is closed, whatever happens to this process. What is in it is listed once, and kept in the cache.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO

from cifar.data.archive import ALLOWED, Archive, Member, checked, is_passing, refused
from cifar.data.images import DataError, on_one_line
from cifar.data.shared_handle import SharedHandle
from cifar.files import FileError, cannot_write, write_atomically

DECOMPRESS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""What opens a compressed file, by its first bytes."""
BLOCK = 512
"""A tar file consists of blocks of so many bytes."""
MAX_HEADER = 2**26
"""Bytes of the headers of one member: tarfile reads them in one piece."""
CHUNK = 2**20
DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)
"""What tarfile and the decompressors raise for damaged archives."""
LISTING = 1
"""The version of what is kept of a listing."""


def open_tar(path: Path, cache_dir: Path | None) -> Archive:
    """`cache_dir`: where listings of compressed archives are kept, and these decompressed; None: nowhere, and where
    temporary files are.

    Raises DataError for an archive that is damaged or not allowed, FileError where there is no space to decompress it.
    """
    status = path.stat()
    with path.open("rb") as file:
        start = file.read(8)
    decompress = next((function for magic, function in DECOMPRESS.items() if start.startswith(magic)), None)
    if decompress is None:
        with path.open("rb") as file:
            members = checked(path, status.st_size, _members(path, file))
        return Archive(path, status.st_mtime_ns, members, TarReader(path, None, cache_dir))
    reader = TarReader(path, decompress, cache_dir)
    state = [LISTING, str(path.resolve()), status.st_size, status.st_mtime_ns]
    name = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]
    kept = cache_dir / "archives" / f"{name}.json" if cache_dir else None
    members = _kept(kept) or checked(path, status.st_size, reader.list_members())
    if kept is not None and not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileError):  # it only saves decompressing the archive again
            write_atomically(kept, json.dumps({key: asdict(member) for key, member in members.items()}).encode())
    reader.size = max((member.place + member.size for member in members.values()), default=0)
    return Archive(path, status.st_mtime_ns, members, reader)


def _kept(file: Path | None) -> dict[str, Member] | None:
    """A listing that was kept; None where there is none, or it is damaged."""
    with suppress(OSError, ValueError, TypeError):
        if file is not None:
            return {key: Member(**member) for key, member in json.loads(file.read_bytes()).items()}
    return None


class TarReader:
    """Reads the members of a tar file. `Member.place` is where its content begins, decompressed.

    `size`: bytes that are decompressed, up to the end of the last member.
    """

    def __init__(self, path: Path, decompress: Callable[[Path], Any] | None, cache_dir: Path | None) -> None:
        self._path = path
        self._decompress = decompress
        self._folder = cache_dir or Path(tempfile.gettempdir())
        self._file = SharedHandle(self._open)
        self.size = 0

    def list_members(self) -> Iterator[Member]:
        """The members of a compressed file, which is decompressed for that and stays so until it is closed."""
        assert self._decompress is not None
        unpacked = _temporary(self._folder)
        try:
            with self._decompress(self._path) as stream:
                copy = _Copy(self._path, stream, unpacked, self._folder)
                yield from _members(self._path, copy, copy)
                while copy.read(CHUNK):  # to its end, where the sums are that say whether it is damaged
                    pass
            unpacked.flush()
            _check_end(self._path, os.pread(unpacked.fileno(), BLOCK, copy.end))
        except BaseException as error:
            unpacked.close()
            if isinstance(error, DAMAGE) and not is_passing(error):
                raise _damaged(self._path, error) from None
            raise
        self._file.set(unpacked)

    def read(self, member: Member) -> bytes:
        """The content; the sums of a compressed file were checked when it was listed."""
        content = bytearray()
        with self._file.used() as file:
            while len(content) < member.size:
                size = min(member.size - len(content), CHUNK * 64)
                block = os.pread(file.fileno(), size, member.place + len(content))
                if not block:
                    raise DataError(f"{on_one_line(self._path / member.name)}: cut off in the archive")
                content += block
        return bytes(content)

    def _open(self) -> IO[bytes]:
        return self._path.open("rb") if self._decompress is None else self._unpacked(self._decompress)

    def _unpacked(self, decompress: Callable[[Path], Any]) -> IO[bytes]:
        unpacked = _temporary(self._folder)
        try:
            with decompress(self._path) as stream:
                copy = _Copy(self._path, stream, unpacked, self._folder)
                while copy.count < self.size and copy.read(min(CHUNK, self.size - copy.count)):
                    copy.end = copy.count
            unpacked.flush()
        except DAMAGE as error:
            unpacked.close()
            if is_passing(error):
                raise
            raise _damaged(self._path, error) from None
        return unpacked

    def close(self) -> None:
        self._file.close()


class _Copy:
    """A stream that is copied to a file in `folder` while it is read, without gaps.

    Raises DataError where it continues for too long behind `end`, that of the member that was found last.
    """

    def __init__(self, path: Path, stream: BinaryIO, target: IO[bytes], folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._stream = stream
        self._target = target
        self.end = 0
        self.count = 0

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self.count += len(block)
        if self.count > self.end + MAX_HEADER:
            raise DataError(
                f"{on_one_line(self._path)}: more than {MAX_HEADER / 1e6:.0f} MB that are in no member; make it again"
            )
        try:
            self._target.write(block)
        except OSError as error:
            raise cannot_write(self._folder, error) from None
        return block


def _members(path: Path, file: Any, copy: _Copy | None = None) -> Iterator[Member]:
    """Raises DataError for a damaged file, and for members that are neither files nor folders nor links."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:" if copy is None else "r|") as archive:
            for info in archive:
                end = info.offset_data + -(-info.size // BLOCK) * BLOCK if info.isreg() else info.offset_data
                if copy is not None:
                    copy.end = end
                yield _member(path, info)
                archive.members.clear()  # type: ignore[attr-defined]  # else all of them are kept
        if copy is None:
            file.seek(end)
            _check_end(path, file.read(BLOCK))
    except DAMAGE as error:
        if is_passing(error):
            raise
        raise _damaged(path, error) from None


def _check_end(path: Path, block: bytes) -> None:
    """Raises DataError where no block of zeros ends the members: tarfile takes what it cannot read for the end."""
    if block != bytes(BLOCK):
        raise _damaged(path, EOFError("cut off or damaged after its last member"))


def _member(path: Path, info: tarfile.TarInfo) -> Member:
    if info.isdir():
        return Member(info.name, is_folder=True)
    if info.issym():
        return Member(info.name, target=posixpath.join(posixpath.dirname(info.name), info.linkname))
    if info.islnk():
        return Member(info.name, target=info.linkname)
    if not info.isreg():
        raise refused(path, info.name, "neither a file nor a folder", "files, folders and links to files")
    if info.issparse():
        raise refused(path, info.name, "a sparse file", "files as they are; make it again without --sparse")
    return Member(info.name, info.size, info.offset_data)


def _temporary(folder: Path) -> IO[bytes]:
    """A file without a name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise cannot_write(folder, error) from None


def _damaged(path: Path, error: BaseException) -> DataError:
    problem = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{on_one_line(path)}: no archive that can be read ({problem}); allowed: {ALLOWED}, undamaged")

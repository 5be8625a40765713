"""Files are written whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import os
from pathlib import Path

import pytest

from cifar.files import FileError, check_target, csv_bytes, write_atomically


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, (tmp_path / "file").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"content")
    assert seen[0] == (len(b"content"), False)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_and_leaves_the_old_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"file: the disk is full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / "file" / "below"
    with pytest.raises(FileError, match=r"cannot write .*below: Not a directory"):
        write_atomically(place, b"")


@pytest.mark.parametrize(
    ("place", "folder", "message"),
    [
        ("absent/file", False, "--out .*: there is no folder .*absent"),
        ("folder", False, "a folder; allowed: the name of a file"),
        ("/dev/null", False, "no regular file; allowed: another name"),
        ("file", True, "no folder; allowed: another name"),
        ("..", True, "allowed: a folder with a name"),
        ("file/below", False, "there is no folder"),
        ("/proc/file", False, "cannot be written (.*); allowed: a folder that is writable"),
        ("n" * 300, False, "cannot be written (File name too long)"),
        ("link", False, "a link; allowed: the file that it leads to"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused(place: str, folder: bool, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(FileError, match=message.replace("(", r"\(").replace(")", r"\)")):
        check_target("--out", tmp_path / place, folder)
    for name, is_folder in (("file", False), ("new", False), ("folder", True), ("new", True)):
        check_target("--out", tmp_path / name, is_folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_a_cell_with_any_line_end_is_read_back() -> None:
    rows = [["file", "label"], ["a\rb\n.png", "cat\r"], ['"', "d,e"]]
    assert list(csv.reader(io.StringIO(csv_bytes(rows).decode(), newline=""))) == rows

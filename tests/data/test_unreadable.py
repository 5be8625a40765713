"""Files that cannot be read are named all at once, remembered, and left out where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar.data import folder, table
from cifar.data.images import DataError, Images
from cifar.data.request import Request
from cifar.data.unreadable import UnreadableError
from cifar.options.data import ImageFolder
from cifar.options.sources import Table

MakeFolder = Callable[..., Path]


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    """Eight images, and 25 files that are none: truncated, empty, of another kind, and a link to nothing."""
    root = make_folder()
    cats = root / "train" / "cat"
    whole = (cats / "0.png").read_bytes()
    for number in range(22):
        (cats / f"bad{number:02}.png").write_bytes(whole[:100])
    (cats / "empty.jpg").touch()
    (cats / "text.webp").write_text("no image")
    (cats / "link.png").symlink_to("nowhere.png")
    return root


def read(root: Path, unreadable: str = "error", groups: str | None = None) -> Images:
    option = ImageFolder(root=str(root), unreadable=unreadable, groups=groups)
    return folder.image_folder(option, Request("train", root.parent / "cache"))


def test_all_are_named_at_once_and_not_decoded_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableError, match=r"25 of 33 image files of part train cannot be read") as first:
        read(root)
    assert first.value.problems.keys() >= {"train/cat/empty.jpg", "train/cat/text.webp", "train/cat/link.png"}
    assert "0 bytes" in first.value.problems["train/cat/empty.jpg"]
    lines = str(first.value).splitlines()
    assert len(lines) == 22 and lines[-1].strip() == "and 5 more"
    monkeypatch.setattr(Image, "open", None)  # nothing is decoded from here on
    with pytest.raises(UnreadableError) as second:
        read(root)
    assert second.value.problems == first.value.problems


def test_those_that_are_left_out_might_as_well_not_be_there(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    skipped = read(root, "skip", groups=r"regex:\d+|$")
    assert "25 image files of part train cannot be read, and are left out" in caplog.text
    assert len(skipped.unreadable) == 25 and skipped.groups is not None and len(skipped.groups) == len(skipped) == 8
    for name in skipped.unreadable:
        (root / name).unlink()
    clean = read(root)
    assert (clean.fingerprint, clean.files, clean.names) == (skipped.fingerprint, skipped.files, skipped.names)
    assert torch.equal(clean.images, skipped.images) and not clean.unreadable


def test_a_class_that_is_left_without_images_is_named(root: Path) -> None:
    for path in (root / "train" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image of dog in part train can be read"):
        read(root, "skip")


def test_a_file_that_could_not_be_opened_is_tried_again(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    original = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "0.png":
            raise PermissionError(13, os.strerror(13))
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)  # root may read everything
        with pytest.raises(UnreadableError, match=r"2 of 8 image files"):
            read(root)
        assert len(read(root, "skip")) == 6
    assert len(read(root, "skip")) == 8


def test_files_that_fail_only_the_second_time_are_left_out_too(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.read_bytes
    calls: list[str] = []

    def refuse(path: Path) -> bytes:
        calls.append(path.name)
        if path.name == "0.png" or (path.name == "1.png" and calls.count("1.png") > 2):  # one in each class
            raise PermissionError(13, os.strerror(13))
        return original(path)

    root = make_folder()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert set(read(root, "skip", groups=r"regex:\d+").unreadable) == {
        f"train/{label}/{name}.png" for label in ("cat", "dog") for name in (0, 1)
    }


def test_a_size_is_not_kept_where_headers_were_unreadable(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    bad = root / "train" / "cat" / "bad.png"
    bad.write_bytes(b"no image")
    option, request = ImageFolder(root=str(root)), Request("train", tmp_path / "cache")
    assert folder.common_size(option, request) == 32 and not (tmp_path / "cache" / "sizes").exists()
    bad.unlink()
    assert folder.common_size(option, request) == 32 and (tmp_path / "cache" / "sizes").exists()


def test_a_table_leaves_them_out_too(root: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in sorted(root.rglob("*.*")) if path.is_file()]
    file = tmp_path / "table.csv"
    file.write_text("\n".join(["path,label", *rows]) + "\n")
    request = Request("train", tmp_path / "cache")
    images = table.table(Table(root=str(file), unreadable="skip"), request)
    assert (len(images), len(images.unreadable)) == (8, 24)
    with pytest.raises(UnreadableError, match="24 of 32"):
        table.table(Table(root=str(file)), request)

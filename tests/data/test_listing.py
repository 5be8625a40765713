"""Which files of a folder are images: what is skipped is counted, what is lost is named."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cifar.data.folder import image_folder
from cifar.data.images import DataError, Images
from cifar.data.listing import Walk, list_images
from cifar.data.request import Request
from cifar.options.data import ImageFolder

MakeFolder = Callable[..., Path]


@pytest.fixture
def root(make_folder: MakeFolder) -> Path:
    """Two classes of four images in each part."""
    return make_folder(parts=("train", "test"))


def read(root: Path, part: str = "train") -> Images:
    return image_folder(ImageFolder(root=str(root)), Request(part, root.parent / "cache"))


def copy_image(root: Path, *names: str) -> Path:
    """An image at root/names, which is made with its folders."""
    path = root.joinpath(*names)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(path, "PNG")
    return path


HIDDEN = (
    *("cat/.ipynb_checkpoints/0-checkpoint.png", "cat/__MACOSX/0.png", "cat/._0.png", "cat/.git/objects/0.png"),
    *("cat/@eaDir/0.png", "__MACOSX/cat/0.png", ".Trash-0/0.png", "cat/a/.thumbnails/0.png", "$RECYCLE.BIN/0.png"),
)


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_and_system_folders_hold_no_images(name: str, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_image(root, "train", *name.split("/"))
    with caplog.at_level(logging.INFO):
        images = read(root)
    assert (len(images), images.classes) == (8, ("cat", "dog"))
    assert "8 images (skipped: 1 hidden or system files and folders)" in caplog.text


@pytest.mark.parametrize(
    "name, reason",
    [
        *((name, "hidden or system") for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "THUMBS.DB")),
        *(("notes.txt", ".txt files"), ("labels.CSV", ".csv files"), ("README", "files without an extension")),
        *(
            ("film.mpg", ".mpg files"),
            ("data.h5", ".h5 files"),
            ("cat.jpg.bak", ".bak files"),
            ("x.svg", ".svg files"),
        ),
    ],
)
@pytest.mark.parametrize("place", ["", "cat", "cat/more"])
def test_files_that_are_no_images_are_skipped_and_counted(
    place: str, name: str, reason: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = root / "train" / place
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"?")
    with caplog.at_level(logging.INFO):
        assert len(read(root)) == 8
    (message,) = [message for message in caplog.messages if "skipped" in message]
    assert f"1 {reason}" in message


def test_nothing_is_said_where_nothing_is_skipped(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read(root)
    assert "skipped" not in caplog.text


def test_many_kinds_of_other_files_are_one_short_line(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(50):
        (root / "train" / "cat" / f"part.{number:03}").write_bytes(b"?")
    with caplog.at_level(logging.INFO):
        read(root)
    (message,) = [message for message in caplog.messages if "skipped" in message]
    assert "42 others" in message


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg", "a.tif", "a.webp", "a.bmp", "a.gif"])
def test_a_file_with_the_extension_of_images_that_is_none_is_named(name: str, root: Path) -> None:
    (root / "train" / "cat" / name).write_bytes(b"no pixels")
    with pytest.raises(DataError, match=rf"train/cat/{name}: not an image that can be decoded"):
        read(root)


def test_linked_folders_are_followed(root: Path, tmp_path: Path) -> None:
    copy_image(tmp_path, "elsewhere", "a.png")
    copy_image(tmp_path, "elsewhere", "deeper", "b.png")
    copy_image(tmp_path, "eel", "c.png")
    (root / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "eel").symlink_to(tmp_path / "eel")
    (root / "train" / "dog" / "d.png").symlink_to(tmp_path / "eel" / "c.png")
    images = read(root)
    assert images.classes == ("cat", "dog", "eel")
    assert images.labels.bincount().tolist() == [6, 5, 1]


def test_a_linked_part_is_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "train").symlink_to(root / "train")
    assert len(read(tmp_path / "linked")) == 8


@pytest.mark.parametrize("target", [".", "..", "../..", "../../../..", "/"])
@pytest.mark.parametrize("place", ["cat/loop", "cat/deeper/loop"])
def test_links_to_a_folder_that_they_are_in_end(
    place: str, target: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = root / "train" / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(Path(target if target == "/" else os.path.normpath(link.parent / target)))
    with caplog.at_level(logging.INFO):
        assert len(read(root)) == 8
    assert "1 links to a folder that they are in" in caplog.text


def test_links_that_lead_round_in_a_circle_end(root: Path, tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        copy_image(tmp_path, one, f"{one}.png")
        (tmp_path / one / "next").symlink_to(tmp_path / other)
    (root / "train" / "cat" / "a").symlink_to(tmp_path / "a")
    assert len(read(root)) == 10


def test_a_class_that_is_a_link_to_its_part_is_no_class(root: Path) -> None:
    (root / "train" / "all").symlink_to(root / "train")
    assert read(root).classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["dog/x.png", "dog/more", "eel"])
def test_a_link_to_nothing_is_named(name: str, root: Path) -> None:
    (root / "train" / name).symlink_to("/nowhere/x")
    with pytest.raises(DataError, match=rf"train/{name}: a link to nothing \(/nowhere/x\); repair or remove"):
        read(root)


def test_a_link_to_itself_is_named(root: Path) -> None:
    (root / "train" / "dog" / "x.png").symlink_to("x.png")
    with pytest.raises(DataError, match=r"dog/x\.png: a link to nothing"):
        read(root)


def test_a_pipe_is_named_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "train" / "dog" / "x.png")
    with pytest.raises(DataError, match=r"dog/x\.png: not a regular file"):
        read(root)


def test_images_beside_the_classes_are_named_in_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(7):
        copy_image(root, "train", f"x{number}.png")
    assert len(read(root)) == 8
    (message,) = caplog.messages
    assert "images outside the class directories are left out: x0.png, x1.png" in message and "2 more" in message


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_without_classes_are_named(part: str, tmp_path: Path) -> None:
    copy_image(tmp_path, part, "x.png")
    with pytest.raises(DataError, match=rf"{part}: no class directories, and images outside of these \(x\.png\)"):
        read(tmp_path, part)


BYTES = (b"caf\xe9", b"\xff\xfe", "猫".encode("shift-jis"))
"""Names that are not UTF-8."""


@pytest.mark.parametrize("name", BYTES)
def test_names_of_any_bytes_are_read_hashed_and_written(
    name: bytes, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(os.fsdecode(os.fsencode(root / "train") + b"/" + name))
    image = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".png"))
    copy_image(folder, image.name)
    (folder / f"{folder.name}.{folder.name}").write_bytes(b"?")
    with caplog.at_level(logging.INFO):
        images = read(root)
    assert len(images) == 9 and len(images.classes) == 3
    assert read(root).fingerprint == images.fingerprint
    for text in (*images.classes, *caplog.messages):
        assert json.loads(json.dumps(text)).encode("utf-8")
    image.write_bytes(b"?")
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value).encode("utf-8") and "not an image" in str(caught.value)


@pytest.mark.parametrize("name", ["naïve", "猫", "a b", "emoji 😀", "-x", "a,b", "'q'", "a\nb"])
def test_names_in_unicode_stay_as_they_are(name: str, root: Path) -> None:
    copy_image(root, "train", name, f"{name}.png")
    assert name in read(root).classes


def test_other_parts_may_have_empty_classes_and_one_class_alone(root: Path) -> None:
    for path in (root / "test" / "dog").iterdir():
        path.unlink()
    _, classes = list_images(root / "test", "test")
    assert classes == ("cat",)
    for path in (root / "test" / "cat").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"test: no images in it; add some"):
        list_images(root / "test", "test")


def test_a_missing_test_part_is_named_with_its_setting(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere/test: no such directory; test=true needs test/<class>/\*.*test=false"
    ):
        read(root / "nowhere", "test")


def test_a_training_class_without_images_says_what_was_skipped(root: Path) -> None:
    (root / "train" / "eel").mkdir()
    (root / "train" / "eel" / "x.svg").write_bytes(b"?")
    with pytest.raises(DataError, match=r"train/eel: no images in this class \(skipped: 1 \.svg files\)"):
        read(root)


def test_a_broken_link_outside_all_classes_is_left_out(root: Path) -> None:
    (root / "train" / "x.png").symlink_to("/nowhere/x")
    walk = Walk()
    list_images(root / "train", "train", walk=walk)
    assert not walk.broken and "broken links outside the class directories" in walk.summary()

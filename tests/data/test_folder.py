"""Images in folders are decoded once and cached, and errors name the file or the folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from damage import empty, flip_a_byte, truncate
from PIL import Image, ImageOps
from processes import both_at_once
from safetensors.torch import save_file

from cifar.data import folder, image_cache
from cifar.data.decode import decode
from cifar.data.images import DataError, Images, fingerprint_of
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.files import FileError
from cifar.options.data import ImageFolder

MakeFolder = Callable[..., Path]


def read_folder(root: Path, cache: Path, part: str = "train") -> Images:
    return folder.image_folder(ImageFolder(root=str(root)), Request(part, cache))


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """no_decoding(): from here on, opening an image fails."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("an image was decoded")

    return lambda: monkeypatch.setattr(Image, "open", refuse)


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG"])
def test_folder_is_decoded_as_pil_does(suffix: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(suffix=suffix)
    images = read_folder(root, tmp_path / "cache")
    files = sorted(root.rglob(f"*.{suffix}"))
    expected = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    assert torch.equal(images.images, torch.from_numpy(expected))
    assert images.labels.tolist() == [0] * 4 + [1] * 4
    assert images.classes == ("cat", "dog")
    assert (images.images.dtype, images.labels.dtype) == (torch.uint8, torch.int64)


def test_a_second_load_decodes_nothing(
    make_folder: MakeFolder, tmp_path: Path, no_decoding: Callable[[], None]
) -> None:
    root = make_folder()
    first = read_folder(root, tmp_path / "cache")
    no_decoding()
    second = read_folder(root, tmp_path / "cache")
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert (first.classes, first.fingerprint) == (second.classes, second.fingerprint)


def change_content(root: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(root / "train" / "cat" / "0.png")


def change_time_only(root: Path) -> None:
    os.utime(root / "train" / "cat" / "0.png", ns=(1, 1))


def remove_file(root: Path) -> None:
    (root / "train" / "cat" / "0.png").unlink()


def add_file(root: Path) -> None:
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "new.png")


@pytest.mark.parametrize("change", [change_content, change_time_only, remove_file, add_file])
def test_changed_files_are_decoded_again(
    change: Callable[[Path], None], make_folder: MakeFolder, tmp_path: Path, no_decoding: Callable[[], None]
) -> None:
    root = make_folder()
    read_folder(root, tmp_path / "cache")
    change(root)
    fresh = read_folder(root, tmp_path / "other cache")
    assert torch.equal(read_folder(root, tmp_path / "cache").images, fresh.images)
    os.utime(root / "train" / "dog" / "0.png", ns=(2, 2))
    no_decoding()
    with pytest.raises(AssertionError, match="was decoded"):
        read_folder(root, tmp_path / "cache")


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty])
def test_a_damaged_cache_is_decoded_again(
    damage: Callable[[bytes], bytes], make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = make_folder(), tmp_path / "cache"
    expected = read_folder(root, cache).images.clone()
    (entry,) = (cache / "images").glob("*.safetensors")
    content = damage(entry.read_bytes())
    entry.unlink()
    entry.write_bytes(content)
    assert torch.equal(read_folder(root, cache).images, expected)
    assert f"{entry} is damaged" in caplog.text
    caplog.clear()
    read_folder(root, cache)
    assert not caplog.text, "it was not written anew"


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_grey_and_transparent_images_are_converted_and_that_is_logged_once(
    mode: str, make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(mode=mode)
    with caplog.at_level(logging.INFO):
        images = read_folder(root, tmp_path / "cache")
    expected = np.asarray(Image.open(root / "train" / "cat" / "0.png").convert("RGB")).transpose(2, 0, 1)
    assert torch.equal(images.images[0], torch.from_numpy(expected.copy()))
    (message,) = [message for message in caplog.messages if "converted" in message]
    assert "8 of 8 images" in message


@pytest.mark.parametrize("size", [(64, 48), (8, 8), (32, 33)])
def test_images_of_another_size_are_resized_and_that_is_logged_once(
    size: tuple[int, int], make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(size=size)
    with caplog.at_level(logging.INFO):
        assert read_folder(root, tmp_path / "cache").images.shape == (8, 3, 32, 32)
    (message,) = [message for message in caplog.messages if "resized" in message]
    assert "8 of 8 images" in message


def test_nothing_is_logged_of_images_that_fit(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read_folder(make_folder(), tmp_path / "cache")
    assert not [message for message in caplog.messages if "converted" in message or "resized" in message]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(suffix: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(suffix=suffix)
    damaged = root / "train" / "dog" / f"2.{suffix}"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    with pytest.raises(DataError, match=f"{damaged}.*repair or remove"):
        read_folder(root, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"some notes", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_file_that_is_no_image_is_named(content: bytes, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "dog" / "notes.png").write_bytes(content)
    with pytest.raises(DataError, match=r"dog/notes\.png: not an image"):
        read_folder(root, tmp_path / "cache")


def test_hidden_files_do_not_count(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "cat" / ".DS_Store").write_bytes(b"?")
    (root / "train" / ".cache").mkdir()
    assert len(read_folder(root, tmp_path / "cache")) == 8


def test_an_image_of_too_many_pixels_is_to_be_made_smaller(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match=r"it has more than 40 pixels: make it smaller"):
        read_folder(make_folder(), tmp_path / "cache")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such directory; data\.root must"):
        read_folder(tmp_path / "nowhere", tmp_path / "cache")


def test_an_empty_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"train: no class directories; allowed: a directory a class, two or"):
        read_folder(tmp_path, tmp_path / "cache")


def test_one_class_is_not_enough(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one class \(cat\)"):
        read_folder(make_folder(classes=("cat",)), tmp_path / "cache")


def test_classes_one_folder_further_down_are_pointed_to(make_folder: MakeFolder, tmp_path: Path) -> None:
    make_folder("outer", parts=("photos",))
    with pytest.raises(DataError, match=r"one class \(photos\).*; are these in .*outer/photos\?"):
        read_folder(tmp_path / "outer", tmp_path / "cache")


def test_an_empty_class_is_named(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "eel").mkdir()
    with pytest.raises(DataError, match=r"train/eel: no images in this class"):
        read_folder(root, tmp_path / "cache")


def test_the_test_part_is_read_only_when_asked_for(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(parts=("train", "test"))
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"not an image")
    assert len(read_folder(root, tmp_path / "cache")) == 8
    with pytest.raises(DataError, match=r"test/cat/0\.png: not an image"):
        read_folder(root, tmp_path / "cache", "test")


def test_two_processes_on_an_empty_cache_decode_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, decoded = make_folder(each=30), tmp_path / "decoded"
    script = """
import sys, time
from pathlib import Path
from PIL import Image
from cifar.data import folder
from cifar.data.request import Request
from cifar.options.data import ImageFolder
root, cache, decoded = sys.argv[1:]
real = Image.open
def noted(path, **options):
    with open(decoded, "a") as file:
        file.write(f"{path}\\n")
    time.sleep(0.005)
    return real(path, **options)
Image.open = noted
print("ready", flush=True)
input()
print(folder.image_folder(ImageFolder(root=root), Request("train", Path(cache))).fingerprint)
"""
    answers = both_at_once(script, str(root), str(tmp_path / "cache"), str(decoded))
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert answers[0].stdout == answers[1].stdout != ""
    assert len(decoded.read_text().splitlines()) == 60


def earlier_entry(root: Path, cache: Path, images: Images) -> None:
    """Put `images` where earlier versions cached those of root/train, and as they did."""
    files = sorted(path for path in (root / "train").rglob("*.*") if path.is_file())
    state = [(str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([32, str(root), state]).encode()).hexdigest()[:32]
    (cache / "images").mkdir(parents=True)
    metadata = {"classes": json.dumps(images.classes), "fingerprint": images.fingerprint}
    content = {"images": images.images, "labels": images.labels}
    save_file(content, cache / "images" / f"{key}.safetensors", metadata)


def recognisable(images: Images) -> Images:
    """Other pixels, in the place of those that decoding gives."""
    pixels = 255 - images.images
    return Images(pixels, images.labels, images.classes, fingerprint_of(pixels, images.labels, images.classes))


def test_entries_of_earlier_versions_are_made_anew(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    expected = read_folder(root, tmp_path / "cache")
    earlier_entry(root, tmp_path / "earlier", recognisable(expected))
    assert read_folder(root, tmp_path / "earlier").fingerprint == expected.fingerprint


def test_a_second_start_does_not_hash_the_images(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    first = read_folder(root, tmp_path / "cache")
    (entry,) = (tmp_path / "cache" / "images").glob("*.safetensors")

    def refuse(*arguments: Any) -> str:
        raise AssertionError("the images were hashed")

    monkeypatch.setattr(image_cache, "fingerprint_of", refuse)
    assert read_folder(root, tmp_path / "cache").fingerprint == first.fingerprint
    entry.touch()
    with pytest.raises(AssertionError, match="were hashed"):
        read_folder(root, tmp_path / "cache")


def photograph(path: Path) -> None:
    """A JPEG of 1600 x 1200 pixels with smooth and with fine structure."""
    y, x = np.mgrid[:1200, :1600]
    waves = [127 + 120 * np.sin(x / period + y / 90) for period in (40.0, 70.0, 3.0)]
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(path, quality=92)


def test_large_photographs_are_decoded_faster_to_nearly_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    photograph(path)
    whole = ImageOps.fit(Image.open(path), (64, 64), Image.Resampling.BILINEAR)
    pixels = decode(path, InputFormat(64)).pixels
    difference = np.abs(pixels.astype(int) - np.asarray(whole).astype(int))
    assert difference.any(), "it is decoded at its full size"
    assert difference.mean() < 1.5 and difference.max() <= 16


def test_the_pixels_of_large_photographs_at_32_are_those_of_earlier_versions(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    photograph(path)
    whole = ImageOps.fit(Image.open(path), (32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(path)[0], np.asarray(whole))


def test_a_disk_that_is_too_small_is_an_error_before_decoding(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_decoding: Callable[[], None]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    root = make_folder()
    no_decoding()
    with pytest.raises(FileError, match=r"8 images of 32x32 pixels take 0\.0 GB.*cache\.dir=DIR"):
        read_folder(root, tmp_path / "cache")

"""Images in NumPy archives: those of MedMNIST's layout are read block by block, others are one clear error."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar.data import arrays, pixels
from cifar.data.images import DataError, Images
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.options.sources import Arrays

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (20, 10, 10), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (20, 12, 9, 3), dtype=np.uint8)
LABELS = np.arange(20) % 2


def read(root: Path, part: str = "train", format: InputFormat | None = None, in_memory: int = 10**9) -> Images:
    request = Request(part, root.parent / "cache", format or InputFormat(10), in_memory)
    return arrays.arrays(Arrays(root=str(root)), request)


def saved(place: Path, **content: Any) -> Path:
    np.savez(place / "x.npz", **content)
    return place / "x.npz"


@pytest.mark.parametrize("change", [np.asarray, lambda images: images[..., None], np.asfortranarray])
def test_grey_images_are_rgb_of_three_equal_channels(change: Callable[[Any], Any], tmp_path: Path) -> None:
    content = read(saved(tmp_path, train_images=change(GREY), train_labels=LABELS[:, None].astype(np.uint8)))
    assert torch.equal(content.images, torch.from_numpy(GREY)[:, None].expand(-1, 3, -1, -1))
    assert (content.labels.tolist(), content.classes) == (LABELS.tolist(), ("0", "1"))
    assert arrays.common_size(Arrays(root=str(tmp_path / "x.npz")), Request("train", tmp_path)) == 10


def test_blocks_and_files_give_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(tmp_path, train_images=COLOUR, train_labels=LABELS)
    at_once = read(file)
    file.touch()  # so that it is read anew
    monkeypatch.setattr(pixels.rows_of, "__defaults__", (1000,))
    in_blocks = read(file, in_memory=0)
    assert at_once.fingerprint == in_blocks.fingerprint
    assert torch.equal(at_once.images, in_blocks.images[:])
    expected = InputFormat(10).apply_to_all(COLOUR)
    assert torch.equal(at_once.images, torch.from_numpy(expected.transpose(0, 3, 1, 2).copy()))


@pytest.mark.parametrize(
    "labels, more, classes, indices",
    [
        (["dog", "cat"], {}, ("cat", "dog"), [1, 0]),
        ([0, 1], {"classes": ["dog", "cat"]}, ("dog", "cat"), [0, 1]),
        ([0, 2], {"label_names": ["dog", "none", "cat"]}, ("dog", "cat"), [0, 1]),
        ([9, 10], {}, ("9", "10"), [0, 1]),
    ],
)
def test_classes_are_names(
    labels: list[Any], more: dict[str, Any], classes: tuple[str, ...], indices: list[int], tmp_path: Path
) -> None:
    content = read(saved(tmp_path, train_images=GREY, train_labels=np.array(labels * 10), **more))
    assert (content.classes, content.labels.tolist()) == (classes, indices * 10)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_images": GREY / 255}, r"train_images has the type float64; allowed: uint8.*\* 255"),
        ({"train_images": COLOUR.transpose(0, 3, 1, 2)}, r"shape \(20, 3, 12, 9\).*transpose\(0, 2, 3, 1\)"),
        ({"train_images": GREY[:0]}, r"train_images has the shape \(0, 10, 10\)"),
        ({"train_labels": LABELS[1:]}, r"train_labels has the shape \(19,\); allowed: \(20,\) or \(20, 1\)"),
        ({"train_labels": np.stack([LABELS] * 2, 1)}, r"the shape \(20, 2\).*one label for each of the 20"),
        ({"train_labels": LABELS * 1.0}, "train_labels has the type float64; allowed: whole numbers"),
        ({"train_labels": LABELS.astype(object)}, "train_labels has the type object"),
        ({"train_labels": LABELS * 0}, r"one class \(0\); allowed: two or more"),
        ({"classes": np.array(["a"])}, "from 0 to 1, and classes has 1 different names"),
        ({"classes": np.array(["a", "b"], object)}, "classes has the type object"),
    ],
)
def test_what_is_wrong_is_one_error(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = saved(tmp_path, **({"train_images": GREY, "train_labels": LABELS} | change))
    with pytest.raises(DataError, match=f"{file}: .*{message}"):
        read(file)


def test_missing_arrays_and_damaged_files_are_named(tmp_path: Path) -> None:
    file = saved(tmp_path, train_images=GREY, train_labels=LABELS)
    with pytest.raises(DataError, match=r"no array test_images \(it has train_images.*set test=false"):
        read(file, "test")
    content = file.read_bytes()
    file.write_bytes(content[:600] + bytes([content[600] ^ 255]) + content[601:])
    with pytest.raises(DataError, match=r"x.npz: cannot be read \(Bad CRC-32.*numpy.savez"):
        read(file)
    array = io.BytesIO()
    np.save(array, GREY)
    for garbage in (array.getvalue(), content[:-300], b""):
        file.write_bytes(garbage)
        with pytest.raises(DataError, match=r"x.npz: cannot be read"):
            read(file)
    file.unlink()
    with pytest.raises(DataError, match=r"x.npz: no such file"):
        read(file)

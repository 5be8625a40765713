"""torchvision's data sets, from files in their forms: arrays, files with and without a loader, parts of any name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from scipy.io import savemat

from cifar.data import torchvision_sets
from cifar.data.images import DataError, Images
from cifar.data.preprocessing import InputFormat
from cifar.data.request import Request
from cifar.options.option import ConfigError
from cifar.options.sources import Torchvision

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)


def option(dataset: str, root: Path, **kwargs: Any) -> Torchvision:
    return Torchvision(dataset=dataset, root=str(root), kwargs=kwargs)


def read(dataset: str, root: Path, part: str = "train", size: int = 16, **kwargs: Any) -> Images:
    request = Request(part, root / "cache", InputFormat(size))
    return torchvision_sets.torchvision(option(dataset, root, **kwargs), request)


def write_idx(file: Path, values: np.ndarray) -> None:  # type: ignore[type-arg]
    """In the format of MNIST."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    file.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def make_mnist(root: Path, name: str, *prefixes: str, first: int = 0) -> None:
    for prefix in prefixes:
        write_idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", PIXELS[..., 0])
        write_idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", (np.arange(12) % 3 + first).astype(np.uint8))


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_grey_images_in_arrays(name: str, tmp_path: Path) -> None:
    make_mnist(tmp_path, name, "train", "t10k")
    for part in ("train", "test"):
        images = read(name, tmp_path, part)
        assert torch.equal(images.images, torch.from_numpy(PIXELS[..., 0])[:, None].expand(-1, 3, -1, -1))
        assert images.labels.tolist() == [0, 1, 2] * 4
        assert images.classes == tuple(getattr(torchvision.datasets, name).classes[:3])
    assert torchvision_sets.common_size(option(name, tmp_path), Request("train", tmp_path)) == 16
    assert not torchvision_sets.has_val(option(name, tmp_path))
    with pytest.raises(DataError, match=f"data.dataset={name}: it has no part val; it has train, test"):
        read(name, tmp_path, "val")


def test_further_arguments_are_passed_on(tmp_path: Path) -> None:
    make_mnist(tmp_path, "EMNIST", "emnist-letters-train", "emnist-letters-test", first=1)
    assert read("EMNIST", tmp_path, split="letters").classes == ("a", "b", "c")
    with pytest.raises(DataError, match=r"missing 1 required .*'split'; allowed in data.kwargs: split"):
        read("EMNIST", tmp_path)
    with pytest.raises(DataError, match=r"no argument download; allowed in data.kwargs: split"):
        read("EMNIST", tmp_path, split="letters", download=True)


def test_colour_images_of_a_mat_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(12) % 3 + 8  # 10 is the digit 0
    parts = {}
    for part in ("train", "test"):
        file = tmp_path / f"{part}_32x32.mat"
        savemat(file, {"X": PIXELS.transpose(1, 2, 3, 0), "y": labels[:, None]})
        parts[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", parts)
    images = read("SVHN", tmp_path, "test")
    assert torch.equal(images.images, torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()))
    assert (images.classes, images.labels.tolist()) == (("0", "8", "9"), [1, 2, 0] * 4)


def make_flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "flowers-102"
    (place / "jpg").mkdir(parents=True)
    for number, image in enumerate(PIXELS, 1):
        Image.fromarray(image).save(place / "jpg" / f"image_{number:05d}.jpg")
    savemat(place / "setid.mat", {"trnid": np.arange(1, 7), "valid": np.arange(7, 10), "tstid": np.arange(10, 13)})
    savemat(place / "imagelabels.mat", {"labels": np.arange(12) % 3 + 1})
    monkeypatch.setattr(torchvision.datasets.flowers102, "check_integrity", lambda *arguments: True)


def make_pets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "oxford-iiit-pet"
    (place / "images").mkdir(parents=True)
    (place / "annotations").mkdir()
    breeds = ("Abyssinian", "american_bulldog", "beagle")
    names = [f"{breeds[number % 3]}_{number}" for number in range(12)]
    for name, image in zip(names, PIXELS, strict=True):
        Image.fromarray(image).save(place / "images" / f"{name}.jpg")
    lines = [f"{name} {number % 3 + 1} {1 + (number % 3 > 0)} 1\n" for number, name in enumerate(names)]
    for part in ("trainval", "test"):
        (place / "annotations" / f"{part}.txt").write_text("".join(lines[:6] if part == "trainval" else lines[6:]))


@pytest.mark.parametrize(
    "name, make, classes, has_val",
    [
        ("Flowers102", make_flowers, ("pink primrose", "hard-leaved pocket orchid", "canterbury bells"), True),
        ("OxfordIIITPet", make_pets, ("Abyssinian", "American Bulldog", "Beagle"), False),
    ],
)
def test_files_are_decoded_once_and_cached(
    name: str,
    make: Callable[[Path, pytest.MonkeyPatch], None],
    classes: tuple[str, ...],
    has_val: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(tmp_path, monkeypatch)
    images = read(name, tmp_path)
    assert (images.classes, images.labels.tolist(), len(images)) == (classes, [0, 1, 2] * 2, 6)
    decoded = np.stack([np.asarray(Image.open(file)) for file in sorted(tmp_path.rglob("*.jpg"))])
    first = {content.tobytes() for content in decoded.transpose(0, 3, 1, 2)}
    assert {content.numpy().tobytes() for content in images.images[:]} <= first
    assert len(read(name, tmp_path, "test")) == (3 if has_val else 6)
    assert torchvision_sets.has_val(option(name, tmp_path)) == has_val
    assert torchvision_sets.common_size(option(name, tmp_path), Request("train", tmp_path / "cache")) == 16
    assert len(list((tmp_path / "cache" / "images").glob("*.safetensors"))) == 2


def test_missing_files_are_named_with_a_command(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read("FashionMNIST", tmp_path)
    message = str(caught.value)
    assert f"part train in {tmp_path} (Dataset not found)" in message
    assert "FashionMNIST/raw/train-images-idx3-ubyte" in message and "\n" not in message
    assert f"FashionMNIST({str(tmp_path)!r}, train=True, download=True)" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, message",
    [
        ("FashonMNIST", "no such data set; did you mean FashionMNIST"),
        ("wrapper", "no such data set"),
        ("CocoDetection", "not a data set for classification with a part to train on"),
        ("FakeData", "not a data set for classification"),
        ("ImageFolder", "not a data set for classification"),
    ],
)
def test_what_is_no_data_set_with_labels_and_parts(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"data.dataset={name}: .*{message}"):
        read(name, tmp_path)


@pytest.mark.parametrize("name, flip", [("FashionMNIST", True), ("SVHN", False), ("EMNIST", False), ("STL10", True)])
def test_digits_and_letters_are_not_mirrored(name: str, flip: bool, settings: Callable[..., Any]) -> None:
    assert settings("data=torchvision", f"data.dataset={name}").augment.flip is flip
    assert settings("data=torchvision", f"data.dataset={name}", "augment.flip=true").augment.flip is True
    with pytest.raises(ConfigError, match=r"data\.dataset=\.\./x"):
        settings("data=torchvision", "data.dataset=../x")

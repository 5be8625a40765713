"""Identical images on both sides of a split are counted, wherever the images are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cifar.data.copies import SUMS, count_copies
from cifar.data.pixels import OnDisk
from cifar.experiment import run
from cifar.metadata import SPLIT
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources
from cifar.results import read_result


def random_pixels(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [8, 9])
def test_only_images_that_are_equal_in_every_pixel_count(size: int, tmp_path: Path) -> None:
    pixels = random_pixels(60, size)
    pixels[50:53] = pixels[:3]
    pixels[53] = pixels[50]
    pixels[54] = pixels[4]
    pixels[54, 2, size - 1, size - 1] ^= 1
    pixels[55] = pixels[4].flip(2)
    expected = 4
    assert count_copies(pixels[50:], pixels[:50]) == expected
    assert count_copies(pixels[:50], pixels[50:]) == 3
    file = tmp_path / "images.safetensors"
    file.write_bytes(b"start" + pixels.numpy().tobytes())
    for _ in range(2):
        stored = OnDisk(file, 5, tuple(pixels.shape))
        parts = stored.take(torch.arange(50, 60)), stored.take(torch.randperm(50))
        assert count_copies(*parts) == count_copies(pixels[50:], parts[1]) == expected
        assert file.with_suffix(SUMS).exists()
    pixels[50] = 0
    file.write_bytes(b"other" + pixels.numpy().tobytes())
    file.with_suffix(SUMS).write_bytes(file.with_suffix(SUMS).read_bytes()[:99])  # damaged
    stored = OnDisk(file, 5, tuple(pixels.shape))
    assert count_copies(stored.take(torch.arange(50, 60)), stored.take(torch.arange(50))) == expected - 1
    assert count_copies(pixels, random_pixels(4, 10)) == 0


def test_blank_images_are_all_copies() -> None:
    blank = torch.zeros(30, 3, 8, 8, dtype=torch.uint8)
    assert count_copies(blank[:10], blank[10:]) == 10


def test_copies_are_told_once_and_recorded(
    settings: Callable[..., Config],
    make_folder: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = make_folder(parts=("train", "test"), each=8)
    for label in ("cat", "dog"):
        content = (root / "train" / label / "0.png").read_bytes()
        for number in range(1, 8):
            (root / "train" / label / f"{number}.png").write_bytes(content)
    (root / "test" / "cat" / "0.png").write_bytes((root / "train" / "cat" / "0.png").read_bytes())
    of_folder = (
        "data=image_folder",
        f"data.root={root}",
        "data.limit=null",
        "data.split=random",
        "data.folds=4",
        "data.fold=1",
    )
    config = settings(*of_folder, "epochs=1", "test=true", "model.depths=[1]", "model.width=2")
    resources = Resources()
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            run(config, str(tmp_path / name), NO_REPORTER, resources=resources)
    assert caplog.text.count("4 of 4 validation images are also among the images to train on") == 1
    assert "1 of 16 test images are also among" in caplog.text
    for result in (read_result(tmp_path / name) for name in ("a", "b")):
        assert (result["data"]["val"]["also_in_train"], result["test"]["also_in_train"]) == (4, 1)
        split = dict(zip(SPLIT, ("random", None, None, 0, 4, 1, None, 0), strict=True))
        assert result["data"]["split"] == {**split, "val_from": "training_part"}

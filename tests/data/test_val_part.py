"""Validation on a part of the data that is not split off the training part."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar.content import content_differences, content_of
from cifar.data.images import DataError
from cifar.experiment import run
from cifar.metadata import data_facts
from cifar.options.option import ConfigError
from cifar.reporting import Reporter
from cifar.resources import Resources
from cifar.results import read_result
from cifar.run_data import load_images, load_splits

Settings = Callable[..., Any]


@pytest.fixture
def images(make_folder: Callable[..., Path]) -> Path:
    """train (two classes of four), val and test, each with other images, of two and of one class."""
    root = make_folder(parts=("train", "val"))
    shutil.copytree(root / "train" / "dog", root / "test" / "dog")
    return root


@pytest.fixture
def of(images: Path, tmp_path: Path, settings: Settings) -> Settings:
    """of(*overrides): the settings of a tiny run on these images."""
    tiny = ("model.depths=[1]", "model.width=2", "epochs=1", "device=cpu", "threads=1", "data.val_size=0.5")
    fixed = ("data=image_folder", f"data.root={images}", f"cache.dir={tmp_path / 'cache'}", *tiny)
    return lambda *overrides: settings(*fixed, *overrides)


@pytest.mark.parametrize(
    "val_from, counts", [("auto", (8, 8)), ("val_folder", (8, 8)), ("test_part", (8, 4)), ("training_part", (4, 4))]
)
def test_validation_images_are_those_of_the_part(val_from: str, counts: tuple[int, int], of: Settings) -> None:
    splits = load_splits(of(f"data.val_from={val_from}"), Resources())
    assert (len(splits.train), len(splits.val)) == counts
    assert splits.val.classes == splits.train.classes
    if val_from == "test_part":
        assert splits.val.labels.tolist() == [1] * 4


@pytest.mark.parametrize("overrides", [["data.folds=2", "data.fold=0"], [r"data.groups='regex:\d'"]])
def test_folds_and_groups_are_of_the_training_part(
    overrides: list[str], of: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(of(*overrides), str(tmp_path), Reporter())
    data = read_result(tmp_path)["data"]
    assert (data["train"]["images"], data["val"]["images"], data["split"]["val_from"]) == (4, 4, "training_part")
    assert "the part val is not used" in caplog.text
    for val_from in ("val_folder", "test_part"):
        with pytest.raises(ConfigError, match=rf"the training part is split, but data\.val_from={val_from}; allowed"):
            of(*overrides, f"data.val_from={val_from}")


def test_a_limit_is_one_of_the_training_images(of: Settings) -> None:
    splits = load_splits(of("data.limit=4"), Resources())
    assert (len(splits.train), len(splits.val)) == (4, 8)
    assert len(load_splits(of("data.limit=2"), Resources()).train) == 2, "one of each class: nothing is split"
    with pytest.raises(DataError, match=r"data\.limit=1: .* allowed: 2 \(one of each class\) to 6"):
        load_splits(of("data.limit=1"), Resources())


def test_without_a_part_auto_splits_the_training_part(images: Path, of: Settings) -> None:
    shutil.rmtree(images / "val")
    assert len(load_splits(of(), Resources()).train) == 4
    with pytest.raises(DataError, match=r"images/val: no such directory; data.val_from=val_folder needs val/<class>"):
        load_splits(of("data.val_from=val_folder"), Resources())


def test_a_part_with_other_classes_is_an_error(images: Path, of: Settings) -> None:
    (images / "val" / "dog").rename(images / "val" / "bird")
    message = r"data.val_from=val_folder: part val of .*training part lacks: bird.*or set data.val_from=training_part"
    with pytest.raises(DataError, match=message):
        load_splits(of(), Resources())


def test_a_source_without_such_a_part_says_so(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"val_folder: digits has no part for validation; allowed: training_part"):
        settings("data=digits", "data.val_from=val_folder")
    splits = load_splits(settings("data=digits", "data.val_from=test_part", "data.val_size=5000"))
    assert (len(splits.train), len(splits.val)) == (120, 180)  # data.limit of the tiny run


def test_a_run_records_the_part_and_is_not_tested_on_it(
    of: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"^test=true data\.val_from=test_part: .*allowed: test=false, or another"):
        of("data.val_from=test_part", "test=true")
    run(of("data.val_from=test_part"), str(tmp_path / "run"), Reporter())
    result = read_result(tmp_path / "run")
    assert result["data"]["split"]["val_from"] == "test_part" and result["data"]["val"]["images"] == 4
    assert "validation on all 4 images of part test; data.val_size has no effect" in caplog.text
    assert "part test has no images of cat" in caplog.text


def test_other_validation_images_are_other_content(images: Path, of: Settings) -> None:
    def content(*overrides: str) -> dict[str, Any]:
        config, resources = of(*overrides), Resources()
        splits = load_splits(config, resources)
        return content_of({"data": data_facts(config, load_images(config, resources), splits)})

    before = content()
    assert not content_differences(before, content("data.val_from=val_folder"))
    shutil.rmtree(images / "val" / "cat")
    assert content_differences(before, content()) == [
        "the images are the same, but split differently: data.val_from=val_folder: 8 in 2 classes to validate on then,"
        " 4 in 2 classes now"
    ]
    shutil.rmtree(images / "val")
    (change,) = content_differences(before, content())
    assert "data.val_from was val_folder, now training_part" in change

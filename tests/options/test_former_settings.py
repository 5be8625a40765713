"""Settings of earlier versions keep working."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from cifar.options.augment import with_suited
from cifar.options.config import Config
from cifar.options.former import (
    MOVED_TARGETS,
    NEUTRAL,
    upgrade_settings,
    upgrade_target,
    with_later_settings,
    without_neutral,
)
from cifar.options.option import ConfigError
from cifar.options.shared import parse, renamed
from cifar.search import compared_settings


def test_a_moved_target_has_todays_path_at_any_depth() -> None:
    old = {
        "model": {"_target_": "cifar.resnet.BottleneckResNet", "depths": [1, 1]},
        "transfer": {"backbone": {"_target_": "cifar.resnet.BottleneckResNet", "parts": [{"_target_": "x.y"}]}},
        "note": "cifar.resnet.BottleneckResNet",
    }
    new = upgrade_settings(old)
    resnet = {"_target_": "cifar.models.resnet.BottleneckResNet", "depths": [1, 1], "stem": "auto"}
    assert new["model"] == resnet
    assert new["transfer"]["backbone"]["_target_"] == "cifar.models.resnet.BottleneckResNet"
    assert new["transfer"]["backbone"]["parts"] == [{"_target_": "x.y"}]
    assert new["note"] == old["note"], "only a _target_ is an import path"
    assert old["model"]["_target_"] == "cifar.resnet.BottleneckResNet", "the settings were changed in place"


def test_settings_of_today_stay_as_they_are() -> None:
    settings = {"_target_": "torch.optim.SGD", "lr": 0.1, "betas": [0.9, 0.99], "nested": {"none": None}}
    assert upgrade_settings(settings) == settings


def test_fine_tuning_changed_the_statistics_of_batch_norm() -> None:
    finetune = {"transfer": {"mode": "finetune", "weights": "random"}}
    assert upgrade_settings(finetune)["transfer"] == {**finetune["transfer"], "frozen_statistics": False}
    today = {"transfer": {**finetune["transfer"], "frozen_statistics": True}}
    assert upgrade_settings(today) == today
    assert upgrade_settings({"transfer": {"mode": "frozen"}}) == {"transfer": {"mode": "frozen"}}


@pytest.mark.parametrize("former", MOVED_TARGETS)
def test_every_moved_target_is_where_it_is_said_to_be(former: str) -> None:
    module, _, name = upgrade_target(former).rpartition(".")
    assert hasattr(import_module(module), name)


INPUT = {"image_size": 32, "fit": "crop", "val_from": "training_part"}
SPLIT = {
    "folds": None,
    "fold": None,
    "groups": None,
    "split": "random",
    "fixes": None,
    "unreadable": "error",
    "calibration_size": 0,
    "check_duplicates": "exact",
}
OFF = {"erase": 0.0, "mixup": 0.0, "cutmix": 0.0}


def test_crop_and_flip_are_settings_of_augmentation_now() -> None:
    run = {"loss": {"l2": 0.0}, "data": {"source": "digits", "crop": 2, "flip": False}}
    new = upgrade_settings(run)
    assert new["data"] == {"source": "digits", **INPUT, **SPLIT}
    assert new["augment"] == {"policy": "crop_flip", "crop": 2, "flip": False, **OFF}
    assert upgrade_settings(new) == new
    searched = upgrade_settings({"loss": {"l2": 0.0}, "data": {"source": "digits"}})
    assert searched["augment"] == {"policy": "crop_flip", "crop": None, "flip": None, **OFF}
    assert with_suited(searched)["augment"] == {"policy": "crop_flip", "crop": 0, "flip": False, **OFF}
    part = {"data=digits": {"data": {"source": "digits", "crop": 0, "flip": False}}}
    expected = {"crop": 0, "flip": False}
    assert upgrade_settings(part) == {"data=digits": {"data": {"source": "digits", **INPUT}, "augment": expected}}
    both = {"data": {"crop": None, "flip": None}, "augment": expected}
    assert upgrade_settings(both) == {"data": {}, "augment": expected}


def test_a_former_key_is_another_name_and_not_another_value(settings: Callable[..., Config]) -> None:
    config = settings("data.crop=2")
    assert (config.augment.crop, config.augment.flip) == (2, False)
    with pytest.raises(ConfigError, match=r"data\.crop=2: .* augment\.crop, which is 4; allowed: augment\.crop alone"):
        settings("data.crop=2", "augment.crop=4")


@pytest.mark.parametrize(
    "line, expected",
    [
        ("data.crop=2", "augment.crop=2"),
        ("++data.flip=true", "++augment.flip=true"),
        ("data.crop=choice(0,2)", "data.crop=choice(0,2)"),
        ("data.limit=3", "data.limit=3"),
    ],
)
def test_an_override_of_a_former_key_is_renamed_unless_it_is_searched(line: str, expected: str) -> None:
    (override,) = parse([line], Path("overrides.yaml"))
    assert renamed(override).input_line == expected


def test_what_suits_the_data_takes_the_place_of_null(settings: Callable[..., Config]) -> None:
    cases = {("data=cifar10",): (4, True), ("data=digits",): (0, False), ("augment=none", "data=cifar10"): (0, False)}
    cases[("augment=trivial", "data=digits", "augment.crop=1")] = (1, False)
    for overrides, expected in cases.items():
        augment = settings(*overrides, "data.limit=null").augment
        assert (augment.crop, augment.flip) == expected


def test_it_loads_no_torch(root: Path) -> None:
    code = "import cifar.options.former, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=300).returncode == 0


OLD = {"loss": {"l2": 0.1}, "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "scheduler": {"_target_": "x"}}
"""What a version without the settings of NEUTRAL wrote."""


def test_a_run_of_an_earlier_version_has_the_settings_that_mean_what_it_did() -> None:
    completed = with_later_settings(OLD)
    assert completed["loss"] == {"l2": 0.1, "label_smoothing": 0.0, "class_weights": None}
    assert completed["optimizer"] == {**OLD["optimizer"], "clip_norm": None}
    assert (completed["objective"], completed["ema"]) == ("accuracy", {"decay": None})
    assert with_later_settings({"data": {"limit": 5}}).keys() >= {"data", "loss", "objective"}
    assert with_later_settings({"data": {"limit": 5}})["data"] == {"limit": 5, **SPLIT}
    assert "optimizer" not in with_later_settings({"data": {"limit": 5}}), "it would have no _target_"


def test_a_study_of_an_earlier_version_has_the_settings_of_one_that_uses_none_of_the_later_ones() -> None:
    """Also below the options that its trials draw, and where a later study searches one of them."""
    expected = {**OLD, "objective": "accuracy", "augment": {"crop": 4, "flip": True}}
    assert compared_settings(with_later_settings(OLD)) == compared_settings(OLD) == expected
    option = {"optimizer=adam": {"optimizer": {"lr": 0.1, "clip_norm": None}}}
    assert compared_settings(option) == {"optimizer=adam": {"optimizer": {"lr": 0.1}}}
    changed = {"loss": {"l2": 0.0, "label_smoothing": 0.1}, "objective": "loss"}
    assert compared_settings(changed) == {**changed, "augment": {"crop": 4, "flip": True}}


def test_every_neutral_value_is_todays_default(compose: Callable[..., DictConfig]) -> None:
    cfg = compose()
    assert {key: OmegaConf.select(cfg, key) for key in NEUTRAL} == NEUTRAL
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    assert not {"ema", "objective"} & without_neutral({str(key): value for key, value in plain.items()}).keys()

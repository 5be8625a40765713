"""Settings of earlier versions keep working."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from cifar.options.former import (
    MOVED_TARGETS,
    NEUTRAL,
    upgrade_settings,
    upgrade_target,
    with_later_settings,
    without_neutral,
)
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


@pytest.mark.parametrize("former", MOVED_TARGETS)
def test_every_moved_target_is_where_it_is_said_to_be(former: str) -> None:
    module, _, name = upgrade_target(former).rpartition(".")
    assert hasattr(import_module(module), name)


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
    assert "optimizer" not in with_later_settings({"data": {"limit": 5}}), "it would have no _target_"


def test_a_study_of_an_earlier_version_has_the_settings_of_one_that_uses_none_of_the_later_ones() -> None:
    """Also below the options that its trials draw, and where a later study searches one of them."""
    assert compared_settings(with_later_settings(OLD)) == compared_settings(OLD) == {**OLD, "objective": "accuracy"}
    option = {"optimizer=adam": {"optimizer": {"lr": 0.1, "clip_norm": None}}}
    assert compared_settings(option) == {"optimizer=adam": {"optimizer": {"lr": 0.1}}}
    changed = {"loss": {"l2": 0.0, "label_smoothing": 0.1}, "objective": "loss"}
    assert compared_settings(changed) == changed


def test_every_neutral_value_is_todays_default(compose: Callable[..., DictConfig]) -> None:
    cfg = compose()
    assert {key: OmegaConf.select(cfg, key) for key in NEUTRAL} == NEUTRAL
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    assert not {"ema", "objective"} & without_neutral({str(key): value for key, value in plain.items()}).keys()

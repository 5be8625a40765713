"""Settings of earlier versions keep working."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cifar.options.former import MOVED_TARGETS, upgrade_settings, upgrade_target


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

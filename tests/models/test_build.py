"""Models and backbones are built from settings; what may not be called or does not fit is refused in one line."""

from __future__ import annotations

from typing import Any
from urllib.error import URLError

import pytest
import torch
from backbones import SMALL, backbone

from cifar.models.build import build_model
from cifar.models.pretrained import BACKBONES, build_backbone
from cifar.models.resnet import BottleneckResNet
from cifar.models.weights import TransferError
from cifar.options.option import ConfigError


def test_a_model_has_a_logit_for_each_class() -> None:
    model = build_model({"_target_": SMALL, "depths": [1, 1], "width": 4}, 7)
    assert isinstance(model, BottleneckResNet)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    resnet = build_model({"_target_": "torchvision.models.get_model", "name": "resnet18"}, 5)
    assert resnet.get_submodule("fc").out_features == 5


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "torchvision.models.get_model", "name": "no_such_network"},
        {"_target_": SMALL, "depths": [1], "no_such_argument": 1},
    ],
)
def test_a_model_that_cannot_be_built_is_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"model: .* cannot be built") as caught:
        build_model(settings, 10)
    assert settings["_target_"] in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_of_torchvision_downloads_no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its random weights are random in all of it. What cannot be loaded is one line, too."""

    def offline(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    settings = {"_target_": "torchvision.models.get_model", "name": "lraspp_mobilenet_v3_large"}
    assert build_model(settings, 4).get_submodule("backbone") is not None
    with pytest.raises(ConfigError, match=r"model: .* cannot be built: .*no network"):
        build_model({"_target_": "torchvision.models.get_model", "name": "resnet18", "weights": "DEFAULT"}, 1000)


def test_a_backbone_is_built_from_its_target_and_reads_its_weights_anew() -> None:
    target = {"_target_": SMALL, "depths": [1, 1], "width": 4}
    one, other = (build_backbone(target, "random", None, None, 16) for _ in range(2))
    assert one.model is not other.model
    assert one.sha256 == other.sha256 == backbone().sha256
    assert (one.name, one.options) == (SMALL, {"depths": [1, 1], "width": 4})
    assert (one.preprocess.resize, one.preprocess.crop, one.images_seen) == (16, 16, 0)
    assert one.reference()["backbone"] == target


def test_a_backbone_that_may_not_be_called_is_refused_with_those_that_may() -> None:
    with pytest.raises(ConfigError, match=r"transfer\.backbone=.*os\.system.* cannot be built") as caught:
        build_backbone({"_target_": "os.system", "command": "true"}, "random", None, None, None)
    assert ", ".join(BACKBONES) in str(caught.value) and "\n" not in str(caught.value)


def test_a_backbone_that_gives_no_features_is_refused() -> None:
    target = {"_target_": "torchvision.models.alexnet"}
    with pytest.raises(TransferError, match=r"transfer\.image_size=16"):
        build_backbone(target, "random", None, None, 16)

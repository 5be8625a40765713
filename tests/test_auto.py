"""Settings that are auto: decided by the time, the images and the cores, and recorded as what was decided."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cifar import auto
from cifar.experiment import run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.model import ResNet9
from cifar.reporting import NO_REPORTER
from cifar.results import read_result
from cifar.search import execution

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Settings = Callable[..., Config]


@pytest.fixture
def resnet9(compose: Any, tiny: list[str]) -> Settings:
    common = [line for line in tiny if not line.startswith("model")]
    return lambda *overrides: check(compose(*common, "model=resnet9", *overrides))


@pytest.mark.parametrize(
    ("seconds", "width"), [(0.0001, 8), (0.03, 16), (0.15, 24), (0.3, 32), (5.0, 64), (math.inf, 64)]
)
def test_the_width_grows_with_the_time_for_an_image(seconds: float, width: int) -> None:
    assert auto.width_for(seconds) == width


def test_it_is_that_of_the_time_the_images_and_the_cores(resnet9: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def width(images: int, size: int, device: torch.device, *overrides: str) -> Any:
        return auto.decided(resnet9(*overrides), images, size, device).get("model.width")

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    bf16 = "precision=bf16"
    assert width(8000, 32, CPU, "time=10m", bf16) == 24
    assert width(8000, 64, CPU, "time=10m", bf16) == 24, "a stride keeps the maps as small"
    assert width(8000, 48, CPU, "time=10m", bf16) == 16
    assert width(8000, 32, CPU, "time=10m", "precision=fp32") == 16
    assert width(45_000, 32, CPU, "time=10m", bf16) == 16
    assert width(45_000, 32, CUDA, "time=10s") == 64
    assert width(45_000, 32, CPU, "epochs=3") == 32
    assert width(45_000, 32, CPU, "time=10m", "model.width=24") is None


@pytest.mark.parametrize(
    ("images", "overrides", "policy"),
    [
        (800, ["time=10m"], "trivial"),
        (8000, ["time=10m"], "crop_flip"),
        (8000, ["epochs=200"], "trivial"),
        (800, ["epochs=20"], "crop_flip"),
        (800, ["time=10m", "augment=crop_flip"], None),
    ],
)
def test_a_strong_augmentation_is_for_many_epochs(
    images: int, overrides: list[str], policy: str | None, resnet9: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    config = resnet9("augment=auto", "augment.erase=0.2", "model.width=8", "precision=fp32", *overrides)
    values = auto.decided(config, images, 32, CPU)
    assert values == ({} if policy is None else {"augment.policy": policy})
    if policy is not None:
        augment = auto.as_decided(config, values).augment
        assert (augment.policy, augment.erase, bool(augment.piece)) == (policy, 0.2, policy == "trivial")


@pytest.mark.parametrize(
    ("images", "batch_size", "decay"), [(800, 32, 8e-4), (8000, 32, 8e-4), (40_000, 32, 1.6e-4), (40_000, 128, 6.4e-4)]
)
def test_many_steps_an_epoch_have_a_smaller_weight_decay(
    images: int, batch_size: int, decay: float, resnet9: Settings
) -> None:
    config = resnet9("optimizer.weight_decay=auto", "model.width=8", f"batch_size={batch_size}")
    values = auto.decided(config, images, 32, CPU)
    assert values == {"optimizer.weight_decay": decay} and config.optimizer.arguments()["weight_decay"] == 8e-4
    assert auto.as_decided(config, values).optimizer.arguments()["weight_decay"] == decay


def test_an_augmentation_that_was_decided_is_kept_when_the_run_is_resumed(
    resnet9: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar.auto.EPOCHS_OF_TRIVIAL", 1)
    config = resnet9("augment=auto", "model.width=4", "epochs=1")
    files = {"config.yaml": yaml.safe_dump(dataclasses.asdict(config))}
    run(config, str(tmp_path), NO_REPORTER, settings=files)
    assert read_result(tmp_path)["decided"] == execution_of(tmp_path) == {"augment.policy": "trivial"}
    monkeypatch.setattr("cifar.auto.EPOCHS_OF_TRIVIAL", 100)
    resumed = resnet9("augment=auto", "model.width=4", "epochs=2", f"resume={tmp_path}")
    assert auto.decided(resumed, 96, 32, CPU) == {"augment.policy": "trivial"}


def execution_of(run: Path) -> dict[str, Any]:
    """What repeats a run, beside its threads."""
    return {key: value for key, value in execution(run).items() if key != "threads"}


def test_it_is_recorded_as_a_number_and_kept_when_the_run_is_resumed(
    resnet9: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar.auto.WIDTHS", (4, 8))
    files = {"config.yaml": yaml.safe_dump({"model": {"_target_": ResNet9._target_, "width": "auto", "stride": None}})}
    run(resnet9("time=1s"), str(tmp_path), NO_REPORTER, settings=files)
    recorded = yaml.safe_load((tmp_path / ".hydra" / "config.yaml").read_text("utf-8"))
    width = recorded["model"]["width"]
    assert width in (4, 8)
    assert read_result(tmp_path)["decided"] == {"model.width": width}
    assert execution(tmp_path)["model.width"] == width
    monkeypatch.setattr("cifar.auto.WIDTHS", (16, 16))
    assert auto.decided(resnet9("time=1s", f"resume={tmp_path}"), 96, 32, CPU) == {"model.width": width}


def test_a_width_that_is_typed_is_not_recorded_as_decided(resnet9: Settings, tmp_path: Path) -> None:
    run(resnet9("model.width=4", "epochs=1"), str(tmp_path), NO_REPORTER)
    assert "decided" not in json.loads((tmp_path / "result.json").read_text("utf-8"))

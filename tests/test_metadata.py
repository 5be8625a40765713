"""What result.json, the log and a tracker say of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cifar import layout
from cifar.experiment import build_trainer
from cifar.metadata import (
    PROGRAM,
    count_flops,
    data_facts,
    epoch_line,
    final_metrics,
    git_commit,
    model_name,
    program_name,
    run_facts,
    tracked_settings,
)
from cifar.options.config import Config
from cifar.options.model import ResNet9
from cifar.reporting import EpochMetrics
from cifar.run_data import load_images, load_splits

CPU = torch.device("cpu")
Settings = Callable[..., Config]


def test_flops_are_those_of_every_convolution_and_the_linear_layer(settings: Settings) -> None:
    model = build_trainer(settings(), load_splits(settings()), CPU).model.eval()
    flops = count_flops(model, (3, 32, 32))
    counted: list[int] = []

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        weights = module.weight[0].numel()  # type: ignore[index, union-attr, operator]
        counted.append(2 * weights * output.numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model(torch.zeros(1, 3, 32, 32))
    assert flops == sum(counted)


def test_the_facts_are_those_of_the_run(settings: Settings) -> None:
    config = settings("seed=3", "precision=bf16")
    splits = load_splits(config)
    trainer = build_trainer(config, splits, CPU)
    facts = run_facts(config, data_facts(config, load_images(config), splits), trainer)
    assert facts["model"]["parameters"] == sum(p.numel() for p in trainer.model.parameters())
    assert facts["model"]["flops"] == count_flops(trainer.model, (3, 32, 32))
    assert (facts["seed"], facts["epochs"], facts["resumed_from"]) == (3, 2, None)
    assert facts["data"]["val"] == {"images": 24, "fingerprint": splits.val.fingerprint, "also_in_train": 0}
    assert (facts["device"]["type"], facts["device"]["precision"]) == ("cpu", "bfloat16")


def test_an_installed_program_has_a_version_and_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "INSTALLED", True)
    assert git_commit.__wrapped__() is None, "the repository around it is the user's"
    assert program_name().startswith(f"{PROGRAM} ")


def test_the_model_is_named_by_its_settings(settings: Settings) -> None:
    assert model_name(settings()) == "depths=[1, 1] width=4"
    network = ResNet9("cifar.models.resnet9.ResNet9", width=4, stride=None)
    assert model_name(dataclasses.replace(settings(), model=network)) == "width=4"


def test_a_tracker_receives_what_was_trained_and_not_where(settings: Settings) -> None:
    tracked = tracked_settings(settings("resume=/somewhere"))
    assert tracked["optimizer.lr"] == settings().optimizer.lr
    assert (tracked["model.depths"], tracked["threads"], tracked["data.root"]) == ("[1, 1]", 1, "null")
    assert not {"resume", "from_study", "cache.dir", "tracker._target_"} & tracked.keys()


def epoch(number: int, accuracy: float) -> EpochMetrics:
    return EpochMetrics(number, 1.5, 0.25, 2.0, accuracy, 0.1, 1.0, 100.0)


def test_the_final_metrics_are_those_of_the_best_epoch_and_of_the_test() -> None:
    history = [epoch(1, 0.5), epoch(2, 0.75), epoch(3, 0.6)]
    figures = {"best/epoch": 2, "best/train_loss": 1.5, "best/train_accuracy": 0.25, "best/val_loss": 2.0}
    figures |= {"best/val_accuracy": 0.75}
    assert final_metrics(history, {}) == figures
    test = {"test": {"loss": 1.0, "accuracy": 0.7, "images": 180, "epoch": 2}}
    assert final_metrics(history, test) == figures | {"test/loss": 1.0, "test/accuracy": 0.7}
    assert final_metrics([], {}) == {}


def test_the_lines_of_all_epochs_are_of_one_width() -> None:
    best, other = epoch_line(epoch(2, 0.75), 10, best=True), epoch_line(epoch(10, 0.5), 10, best=False)
    assert best.startswith("epoch  2/10 · train loss 1.5000 accuracy 0.2500 · val loss 2.0000 accuracy 0.7500 (best) ·")
    assert len(best) == len(other) and "best" not in other

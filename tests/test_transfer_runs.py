"""Runs that train on a pretrained backbone: their results, their features, and the model that they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import CPU, SMALL, TRANSFER, backbone, small

from cifar.experiment import build_trainer, load_splits, run
from cifar.models.pretrained import BACKBONES
from cifar.models.weights import TransferError
from cifar.options.check import check
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER
from cifar.results import read_metrics
from cifar.trained import load_classifier

Compose = Callable[..., Any]
Train = Callable[..., tuple[Path, float]]
MEAN = "data.mean=[0.5,0.5,0.5]"


@pytest.fixture
def train(compose: Callable[..., Any], tiny: list[str], tmp_path: Path) -> Callable[..., tuple[Path, float]]:
    """train(name, *overrides): a tiny run in the folder `name`; the folder and its best validation accuracy."""

    def trained(name: str, *overrides: str) -> tuple[Path, float]:
        pretrained = any(line.startswith("transfer=") for line in overrides)
        general = [line for line in tiny if not (pretrained and line.startswith("model."))]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = check(compose(*general, f"cache.dir={tmp_path}", *overrides))
        return folder, run(config, str(folder), NO_REPORTER)

    return trained


def test_runs_of_one_process_share_the_features(compose: Compose, tiny: list[str], tmp_path: Path) -> None:
    general = [line for line in tiny if not line.startswith("model.")]
    overrides = (*general, "transfer=frozen", *TRANSFER, "transfer.views=2", "augment.crop=2", f"cache.dir={tmp_path}")
    configs = [check(compose(*overrides, f"seed={seed}")) for seed in (1, 2)]
    one, other = (build_trainer(config, load_splits(config), CPU) for config in configs)
    for part in ("train", "val"):
        assert getattr(one, part).features.data_ptr() == getattr(other, part).features.data_ptr()


@pytest.mark.parametrize("mode", ["frozen", "finetune", "none"])
def test_a_run_is_saved_whole_and_predicts_what_it_was_measured_at(mode: str, train: Train, compose: Compose) -> None:
    overrides = () if mode == "none" else (f"transfer={mode}", *TRANSFER)
    folder, best = train("run", *overrides, "epochs=3", "precision=fp32", "optimizer.lr=0.05")
    val = load_splits(check(compose("data=digits", "data.limit=120"))).val
    predicted = load_classifier(folder / "best.pt").predict(val.images)
    share = sum(name == val.classes[label] for name, label in zip(predicted, val.labels.tolist(), strict=True))
    assert share / len(val) == pytest.approx(best)


def test_the_result_names_the_backbone_and_what_was_extracted(train: Train) -> None:
    keys = []
    for number, more in enumerate((["seed=0"], ["seed=1", "optimizer.lr=0.2"], ["transfer.image_size=24"])):
        folder, _ = train(str(number), "transfer=frozen", *TRANSFER, *more)
        transfer = json.loads((folder / "result.json").read_text())["transfer"]
        keys.append(transfer["cache_keys"])
        assert transfer["images_extracted"] == (0 if number == 1 else 120)
        assert transfer["extraction_seconds"] > 0
        assert transfer["weights"] == "random" and len(transfer["weights_sha256"]) == 64
        assert transfer["backbone"]["_target_"] == SMALL
    assert keys[0] == keys[1] != keys[2]


def test_a_mean_that_is_given_wins_over_that_of_the_weights(train: Train) -> None:
    folders = [train(name, "transfer=frozen", *TRANSFER, *more)[0] for name, more in (("a", ()), ("b", (MEAN,)))]
    usual, chosen = (json.loads((folder / "result.json").read_text())["transfer"] for folder in folders)
    assert usual["preprocess"]["mean"] == [0.485, 0.456, 0.406]
    assert chosen["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert usual["cache_keys"] != chosen["cache_keys"]


def test_the_test_set_is_evaluated_by_its_features(train: Train) -> None:
    folder, _ = train("run", "transfer=frozen", *TRANSFER, "test=true")
    assert json.loads((folder / "result.json").read_text())["test"]["images"] == 180


def test_a_head_resumes_as_if_it_had_not_stopped(train: Train) -> None:
    overrides = ("transfer=frozen", *TRANSFER, "transfer.views=2", "augment.crop=2")
    whole, _ = train("whole", *overrides, "epochs=4")
    part, _ = train("part", *overrides, "epochs=2")
    train("part", *overrides, "epochs=4", f"resume={part}")
    losses = [[m.train_loss for m in read_metrics(folder / "metrics.csv")] for folder in (whole, part)]
    assert len(losses[0]) == 4 and losses[0] == losses[1]


def test_frozen_stages_keep_weights_and_statistics_and_the_backbone_is_slower(train: Train) -> None:
    more = ("transfer.frozen_stages=1", "transfer.backbone_lr_scale=0.1", "optimizer.lr=0.5", "optimizer.momentum=0")
    folder, _ = train("run", "transfer=finetune", *TRANSFER, *more)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    before = backbone().model.state_dict()
    same = {key for key, value in before.items() if torch.equal(value, state["model"][f"backbone.{key}"])}
    assert same == {key for key in before if key.startswith(("conv1", "bn1", "layer1"))}
    rates = {group["lr"] for group in state["optimizer"]["param_groups"]}
    assert sorted(rates) == pytest.approx([0.05, 0.5])
    assert read_metrics(folder / "metrics.csv")[0].lr == 0.5


def test_frozen_statistics_stay_those_of_the_weights(train: Train, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    torch.save(small().state_dict(), weights)
    words = ("transfer=finetune", *TRANSFER, "transfer.frozen_statistics=true")
    for name, more, stay in (("file", [f"transfer.weights={weights}"], True), ("random", [], False)):
        folder, _ = train(name, *words, *more)
        state = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
        means = [value for key, value in state.items() if key.endswith("running_mean")]
        assert len(means) > 3
        assert all(bool(mean.any()) is not stay for mean in means), "random weights have none that could stay"


def test_a_head_of_other_weights_is_refused(train: Train, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    torch.save(small().state_dict(), weights)
    overrides = [line for line in TRANSFER if "weights" not in line]
    folder, _ = train("run", "transfer=frozen", *overrides, f"transfer.weights={weights}")
    torch.manual_seed(9)
    torch.save(small().state_dict(), weights)
    with pytest.raises(TransferError, match="other weights than those"):
        load_classifier(folder / "best.pt")


def test_a_model_beside_a_backbone_is_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"transfer=frozen with model._target_=cifar.models.resnet"):
        check(compose("transfer=frozen", "model=resnet26"))
    with pytest.raises(ConfigError, match=r"transfer=none with model._target_=cifar.models.pretrained"):
        check(compose("model=pretrained"))
    with pytest.raises(ConfigError, match=r"transfer.views=3: all would be the same"):
        check(compose("transfer=frozen", "data=digits", "transfer.views=3"))


def test_a_backbone_that_may_not_be_called_is_refused(run_py: Callable[..., Any]) -> None:
    done = run_py("transfer=frozen", "data=digits", "transfer.backbone._target_=os.system", "transfer.weights=random")
    assert done.returncode == 1
    assert "error: transfer.backbone=" in done.stderr and "whitelist" in done.stderr
    assert BACKBONES[0] in done.stderr


def test_a_sweep_of_heads_extracts_once(run_py: Callable[..., Any], tiny: list[str], tmp_path: Path) -> None:
    sweep = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=s", f"cache.dir={tmp_path}")
    plain = [line for line in tiny if not line.startswith("model.")]
    done = run_py(*sweep, "transfer=frozen", *TRANSFER, *plain, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / "s" / str(trial) / "result.json").read_text()) for trial in range(3)]
    assert [result["transfer"]["images_extracted"] for result in results] == [120, 0, 0]

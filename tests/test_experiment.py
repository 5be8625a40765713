"""One run: what it writes, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from reporters import Acting, throw
from sweeps import fingerprint

from cifar.data import sources
from cifar.data.images import DataError
from cifar.data.request import Request
from cifar.experiment import build_trainer, load_splits, run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.data import Digits
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER, Coordinator, Diverged, Interrupted, Pruned, Reporter
from cifar.results import ResultsError, read_metrics, read_result
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError
from cifar.training.trainer import Evaluation, evaluate

CPU = torch.device("cpu")
Settings = Callable[..., Config]


def test_a_finished_run_leaves_the_files_of_the_design(settings: Settings, tmp_path: Path) -> None:
    returned = run(settings("test=true"), str(tmp_path), NO_REPORTER)
    files = {"metrics.csv", "result.json", "confusion.csv", "classes.csv", "checkpoint.pt", "best.pt"}
    files |= {"predictions.csv", "examples"}
    assert files == {path.name for path in tmp_path.iterdir()}
    history, result = read_metrics(tmp_path / "metrics.csv"), read_result(tmp_path)
    assert [metrics.epoch for metrics in history] == [1, 2]
    assert result["status"] == "finished" and result["message"] is None
    assert result["best"] == vars(max(history, key=lambda metrics: metrics.val_accuracy))
    assert result["last"] == vars(history[-1])
    assert returned == result["best"]["val_accuracy"]
    assert result["test"]["images"] == len(sources.load(Digits(), Request("test", tmp_path)))
    assert result["test"]["epoch"] == result["best"]["epoch"]
    assert result["data"]["train"]["images"] == 96 and result["data"]["val"]["images"] == 24
    for part in ("train", "val"):
        assert len(result["data"][part]["fingerprint"]) == 64
    assert {"python", "torch", "torchvision"} <= result["versions"].keys()
    assert "git" in result and result["seed"] == 0 and result["train_seconds"] > 0
    model = build_trainer(settings(), load_splits(settings()), CPU).model
    assert result["model"]["parameters"] == sum(p.numel() for p in model.parameters())


def test_best_is_the_best_epochs_weights_and_test_uses_them(settings: Settings, tmp_path: Path) -> None:
    class Keep(Reporter):
        """Keeps the epoch of best.pt after each epoch."""

        epochs: list[int] = []  # noqa: RUF012

        def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
            self.epochs.append(checkpoint.load(tmp_path / "best.pt")["epoch"])

    run(settings("epochs=5", "optimizer.lr=0.1", "test=true"), str(tmp_path), Keep())
    history, best = read_metrics(tmp_path / "metrics.csv"), checkpoint.load(tmp_path / "best.pt")
    for end in range(1, 6):
        expected = max(history[:end], key=lambda metrics: metrics.val_accuracy).epoch
        assert Keep.epochs[end - 1] == expected
    config = settings()
    trainer = build_trainer(config, load_splits(config), CPU)
    checkpoint.load_weights(trainer.model, best["model"], tmp_path)
    accuracy = Evaluation.of(evaluate(trainer.score, trainer.val)[0]).accuracy
    assert accuracy == best["val_accuracy"] == read_result(tmp_path)["best"]["val_accuracy"]
    confusion = pd.read_csv(tmp_path / "confusion.csv", index_col=0, dtype={0: str})
    assert confusion.index.tolist() == confusion.columns.tolist() == best["classes"]
    assert np.trace(confusion) / confusion.to_numpy().sum() == accuracy


def test_without_test_the_test_part_is_not_read(
    settings: Settings, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(parts=("train", "test"), each=8)
    unreadable = root / "test" / "cat" / "0.png"
    unreadable.write_text("not an image")
    of_folder = ["data=image_folder", f"data.root={root}", "data.limit=null", "data.val_size=4", "epochs=1"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run(settings(*of_folder), str(tmp_path / "a"), NO_REPORTER)
    assert "test" not in read_result(tmp_path / "a")
    with pytest.raises(DataError, match=str(unreadable)):
        run(settings(*of_folder, "test=true"), str(tmp_path / "b"), NO_REPORTER)


def test_a_test_part_of_other_classes_is_an_error_before_training(
    settings: Settings, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(each=8)
    make_folder(parts=("test",), classes=("bird", "cat", "eel"))
    of_folder = ["data=image_folder", f"data.root={root}", "data.limit=null", "data.val_size=4", "epochs=1"]
    (tmp_path / "run").mkdir()
    with pytest.raises(
        DataError, match=r"classes that the training part lacks: bird, eel; allowed: some or all of cat"
    ):
        run(settings(*of_folder, "test=true"), str(tmp_path / "run"), NO_REPORTER)
    assert not list((tmp_path / "run").iterdir())


def test_a_test_part_may_lack_classes_and_is_scored_by_name(
    settings: Settings, make_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(classes=("ant", "bee", "cat", "dog"), each=8)
    make_folder(parts=("test",), classes=("bee", "dog"), each=5)
    config = settings(
        *("data=image_folder", f"data.root={root}", "data.limit=null", "data.val_size=4", "epochs=1", "test=true"),
        *("model.width=16", "epochs=6", "batch_size=4", "optimizer.lr=0.01", "augment=none", "data.split=random"),
    )
    colours = {"ant": "black", "bee": "red", "cat": "green", "dog": "blue"}
    for path in root.rglob("*.png"):
        Image.new("RGB", (32, 32), colours[path.parent.name]).save(path)
    with caplog.at_level(logging.INFO):
        run(config, str(tmp_path), NO_REPORTER)
    test = read_result(tmp_path)["test"]
    assert (test["images"], test["missing_classes"], test["accuracy"]) == (10, ["ant", "cat"], 1)
    assert "test accuracy 1.0000 of 10 images in 2 of 4 classes (none of ant, cat)" in caplog.text


def test_a_missing_test_part_is_an_error_before_training(
    settings: Settings, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(each=8)
    of_folder = ["data=image_folder", f"data.root={root}", "data.limit=null", "data.val_size=4", "test=true"]
    (tmp_path / "run").mkdir()
    with pytest.raises(DataError, match=r"images/test: no such directory; test=true needs test/<class>"):
        run(settings(*of_folder), str(tmp_path / "run"), NO_REPORTER)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "vit_b_16"])
def test_a_network_that_cannot_take_the_images_is_an_error_before_training(
    name: str, compose: Any, tiny: list[str], tmp_path: Path
) -> None:
    overrides = [override for override in tiny if not override.startswith("model.")]
    with pytest.raises(
        ConfigError, match=r"^model: \w+ cannot train on a batch \(32, 3, 32, 32\): .*allowed: a network"
    ):
        run(check(compose(*overrides, "model=torchvision", f"model.name={name}")), str(tmp_path), NO_REPORTER)
    assert not list(tmp_path.iterdir())


def test_a_last_batch_of_one_image_that_batch_norm_cannot_take_is_an_error_before_training(
    compose: Any, tiny: list[str], tmp_path: Path
) -> None:
    overrides = [override for override in tiny if not override.startswith("model.")]
    model = ["model=torchvision", "model.name=resnet18", "data.val_size=23"]
    with pytest.raises(ConfigError, match=r"^batch_size=32: the last batch of an epoch has 1 of 97 .*batch_size=31"):
        run(check(compose(*overrides, *model)), str(tmp_path), NO_REPORTER)
    run(check(compose(*overrides, *model, "batch_size=31", "epochs=1")), str(tmp_path), NO_REPORTER)


@pytest.mark.parametrize(
    "error, status",
    [(Pruned("not worth it"), "pruned"), (RuntimeError("a defect"), "failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_the_status_says_how_the_run_ended(
    error: BaseException, status: str, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        run(settings(), str(tmp_path), throw(error))
    result = read_result(tmp_path)
    assert result["status"] == status and str(error) in result["message"]
    assert result["epochs_done"] == len(read_metrics(tmp_path / "metrics.csv")) == 1
    assert checkpoint.load(tmp_path / "checkpoint.pt")["epoch"] == 1


def test_a_rate_far_too_high_ends_as_diverged(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="epoch 1 "):
        run(settings("optimizer.lr=1e30", "precision=fp32"), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    assert result["status"] == "diverged" and "epoch 1" in result["message"]
    assert result["best"] is None and result["epochs_done"] == 0
    json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_and_the_message_says_how_to_resume(
    signum: signal.Signals, settings: Settings, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"after epoch 1 of 2.*python run.py resume={tmp_path}") as caught:
        run(settings(), str(tmp_path), Acting(lambda: os.kill(os.getpid(), signum)))
    assert caught.value.signum == signum
    assert read_result(tmp_path)["status"] == "interrupted"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_result_says_running_while_it_runs(settings: Settings, tmp_path: Path) -> None:
    seen = []
    run(settings(), str(tmp_path), Acting(lambda: seen.append(read_result(tmp_path)["status"])))
    assert seen == ["running", "running"]


def test_a_directory_of_another_run_is_refused(settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    before = fingerprint(tmp_path)
    with pytest.raises(ResultsError, match="already holds a run"):
        run(settings("epochs=1", "seed=1"), str(tmp_path), NO_REPORTER)
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize(
    "model",
    [["model=torchvision", "model.name=resnet18"], ["model=timm", "model.model_name=resnet10t"]],
    ids=["torchvision", "timm"],
)
def test_models_of_torchvision_and_timm_can_be_trained(
    model: list[str], compose: Any, tiny: list[str], tmp_path: Path
) -> None:
    overrides = [override for override in tiny if not override.startswith("model.")]
    config = check(compose(*overrides, *model, "data.limit=60", "epochs=1"))
    run(config, str(tmp_path), NO_REPORTER)
    assert read_result(tmp_path)["status"] == "finished"


class Poison:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


HOSTILE = {
    "a command": "{_target_: os.system, command: 'touch DIR/marker'}",
    "a process": "{_target_: subprocess.Popen, args: [touch, DIR/marker]}",
    "an expression": '{_target_: builtins.eval, _args_: [\'open("DIR/marker", "w")\']}',
    "a pickle": "{_target_: torch.load, f: DIR/poison.pt, weights_only: false}",
    "a pickle by way of an allowed package": (
        "{_target_: timm.models.load_state_dict, checkpoint_path: DIR/poison.pt, weights_only: false}"
    ),
    "a pickle by way of a module that an allowed one imports": (
        "{_target_: timm.models._helpers.torch.load, f: DIR/poison.pt, weights_only: false}"
    ),
    "a pickle by way of this project": (
        "{_target_: cifar.training.optim.torch.load, f: DIR/poison.pt, weights_only: false}"
    ),
    "a command by way of this project": (
        "{_target_: cifar.training.schedulers.instantiate, config: {_target_: os.system, command: 'touch DIR/marker'}}"
    ),
    "a repository": "{_target_: torchvision.models._api.load, repo_or_dir: DIR, model: entry, source: local}",
    "a command by way of an allowed package": "{_target_: timm.models._hub.os.system, command: 'touch DIR/marker'}",
    "a model with a poisoned checkpoint": (
        "{_target_: timm.create_model, model_name: resnet10t, checkpoint_path: DIR/poison.pt}"
    ),
}
"""Ways to make a config create the file DIR/marker."""


@pytest.mark.parametrize("way", HOSTILE)
@pytest.mark.parametrize("inside", [False, True], ids=["as the model", "within a model"])
def test_a_hostile_model_runs_nothing_and_is_an_error(
    way: str, inside: bool, compose: Any, tiny: list[str], tmp_path: Path
) -> None:
    torch.save({"state_dict": Poison(tmp_path / "marker")}, tmp_path / "poison.pt")
    (tmp_path / "hubconf.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    hostile = HOSTILE[way].replace("DIR", str(tmp_path))
    model = f"{{_target_: torchvision.models.get_model, name: {hostile}}}" if inside else hostile
    overrides = [override for override in tiny if not override.startswith("model.")]
    try:
        with pytest.raises((ConfigError, CheckpointError), match="model"):
            run(check(compose(*overrides, "~model", f"+model={model}", "epochs=1")), str(tmp_path), NO_REPORTER)
    finally:
        assert not (tmp_path / "marker").exists()


def test_a_model_of_an_unknown_name_is_an_error(compose: Any, tiny: list[str], tmp_path: Path) -> None:
    overrides = [override for override in tiny if not override.startswith("model.")]
    with pytest.raises(ConfigError, match=r"model: .*nonsense"):
        run(check(compose(*overrides, "model=torchvision", "model.name=nonsense")), str(tmp_path), NO_REPORTER)


def test_a_validation_split_that_is_too_large_is_an_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises((DataError, ConfigError), match=r"val_size"):
        run(settings("data.limit=null", "data.val_size=1610"), str(tmp_path), NO_REPORTER)


def test_runs_that_train_between_two_steps_change_no_bit_of_this_one(
    compose: Any, tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    """mobilenet_v3_small has dropout, which draws from torch's global generator."""
    tiny = ["data=digits", "data.limit=60", "device=cpu", "epochs=2", "batch_size=8"]
    config = check(compose(*tiny, "model=torchvision", "model.name=mobilenet_v3_small"))

    class Meddling(Coordinator):
        def yield_control(self) -> None:
            torch.manual_seed(99)

        def run_in_background(self, work: Callable[[], object]) -> None:
            torch.rand(5)
            work()

    beside = Reporter()
    beside.coordinator = Meddling()
    reporters = {"alone": NO_REPORTER, "beside others": beside}
    for name, reporter in reporters.items():
        (tmp_path / name).mkdir()
        run(config, str(tmp_path / name), reporter)
    one, other = ([timeless(m) for m in read_metrics(tmp_path / name / "metrics.csv")] for name in reporters)
    assert one == other

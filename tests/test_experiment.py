"""One experiment: what it writes, how it ends, how it goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cifar import experiment
from cifar.data import images, sources
from cifar.data.images import DataError
from cifar.experiment import build_trainer, load_parts, run, set_up
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER, Coordinator, Diverged, Interrupted, Pruned, Reporter
from cifar.results import ResultsError, read_metrics, read_result
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError
from cifar.training.step import EagerStep
from cifar.training.trainer import Evaluation, evaluate

Settings = Callable[..., Config]


class Raising(Reporter):
    """Does something at the end of epoch 1."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        self.act()


def throw(error: BaseException) -> Raising:
    def act() -> None:
        raise error

    return Raising(act)


def test_a_finished_run_leaves_the_files_of_the_design(settings: Settings, tmp_path: Path) -> None:
    returned = run(settings("test=true"), str(tmp_path), NO_REPORTER)
    files = {"metrics.csv", "result.json", "confusion.csv", "checkpoint.pt", "best.pt"}
    assert files == {path.name for path in tmp_path.iterdir()}
    history, result = read_metrics(tmp_path / "metrics.csv"), read_result(tmp_path)
    assert [metrics.epoch for metrics in history] == [1, 2]
    assert result["status"] == "finished" and result["message"] is None
    assert result["best"] == vars(max(history, key=lambda metrics: metrics.val_accuracy))
    assert result["last"] == vars(history[-1])
    assert returned == result["best"]["val_accuracy"]
    assert result["test"]["images"] == len(sources.load("digits", None, "test", str(tmp_path)))
    assert result["test"]["epoch"] == result["best"]["epoch"]
    assert result["data"]["train"]["images"] == 96 and result["data"]["val"]["images"] == 24
    for part in ("train", "val"):
        assert len(result["data"][part]["fingerprint"]) == 64
    assert {"python", "torch", "torchvision"} <= result["versions"].keys()
    assert "git" in result and result["seed"] == 0 and result["train_seconds"] > 0
    assert result["model"]["parameters"] == sum(
        p.numel() for p in build_trainer(settings(), load_parts(settings()), torch.device("cpu")).model.parameters()
    )


def test_flops_are_those_of_every_convolution_and_the_linear_layer(settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    model = build_trainer(settings(), load_parts(settings()), torch.device("cpu")).model.eval()
    counted = []

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        weights = module.weight[0].numel()  # type: ignore[index, union-attr, operator]
        counted.append(2 * weights * output.numel())

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model(torch.zeros(1, 3, 32, 32))
    assert read_result(tmp_path)["model"]["flops"] == sum(counted)


def test_best_is_the_best_epochs_weights_and_test_uses_them(settings: Settings, tmp_path: Path) -> None:
    class Keep(Reporter):
        """Keeps best.pt of the time when each epoch ended, as tensors."""

        epochs: list[int] = []  # noqa: RUF012

        def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
            self.epochs.append(checkpoint.load(tmp_path / "best.pt")["epoch"])

    run(settings("epochs=5", "optimizer.lr=0.1", "test=true"), str(tmp_path), Keep())
    history, best = read_metrics(tmp_path / "metrics.csv"), checkpoint.load(tmp_path / "best.pt")
    for end in range(1, 6):
        expected = max(history[:end], key=lambda metrics: metrics.val_accuracy).epoch
        assert Keep.epochs[end - 1] == expected
    config = settings()
    trainer = build_trainer(config, load_parts(config), torch.device("cpu"))
    checkpoint.load_weights(trainer.model, best["model"], tmp_path)
    accuracy = Evaluation.of(evaluate(trainer.score, trainer.val)).accuracy
    assert accuracy == best["val_accuracy"] == read_result(tmp_path)["best"]["val_accuracy"]
    confusion = pd.read_csv(tmp_path / "confusion.csv", index_col=0, dtype={0: str})
    assert confusion.index.tolist() == confusion.columns.tolist() == best["classes"]
    assert np.trace(confusion) / confusion.to_numpy().sum() == accuracy


def test_without_test_the_test_part_is_not_loaded(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[str] = []
    real = sources.load

    def noted(source: str, root: str | None, part: str, cache: str) -> images.Images:
        parts.append(part)
        return real(source, root, part, cache)

    monkeypatch.setattr(sources, "load", noted)
    experiment._prepare.cache_clear()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    run(settings("epochs=1"), str(tmp_path / "a"), NO_REPORTER)
    assert parts == ["train"]
    run(settings("epochs=1", "test=true"), str(tmp_path / "b"), NO_REPORTER)
    assert parts.count("test") == 1
    assert "test" not in read_result(tmp_path / "a")


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
def test_a_signal_ends_the_run_after_its_step_and_says_how_to_go_on(
    signum: signal.Signals, settings: Settings, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"after epoch 1 of 2.*python run.py resume={tmp_path}") as caught:
        run(settings(), str(tmp_path), Raising(lambda: os.kill(os.getpid(), signum)))
    assert caught.value.signum == signum
    assert read_result(tmp_path)["status"] == "interrupted"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_result_says_running_while_it_runs(settings: Settings, tmp_path: Path) -> None:
    seen = []
    run(settings(), str(tmp_path), Raising(lambda: seen.append(read_result(tmp_path)["status"])))
    assert seen == ["running", "running"]


def test_a_directory_that_holds_a_run_is_refused(settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ResultsError, match="already holds a run"):
        run(settings("epochs=1", "seed=1"), str(tmp_path), NO_REPORTER)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)["model"]


@pytest.mark.parametrize(
    "options", [[], ["optimizer=adam", "scheduler=cosine"], ["scheduler=onecycle", "loss.l2=0.01"]]
)
@pytest.mark.parametrize("place", ["same", "other"])
def test_a_resumed_run_equals_one_never_interrupted(
    options: list[str], place: str, settings: Settings, tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    goes_on = part if place == "same" else tmp_path / "other"
    for directory in {whole, part, goes_on}:
        directory.mkdir()
    returned = run(settings("epochs=3", *options), str(whole), NO_REPORTER)
    with pytest.raises(Pruned):
        run(settings("epochs=3", *options), str(part), throw(Pruned("so far")))
    assert run(settings("epochs=3", *options, f"resume={part}"), str(goes_on), NO_REPORTER) == returned
    expected, found = ([timeless(m) for m in read_metrics(d / "metrics.csv")] for d in (whole, goes_on))
    assert found == expected
    for name in ("best.pt", "checkpoint.pt"):
        a, b = tensors(whole / name), tensors(goes_on / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert read_result(goes_on)["status"] == "finished"


def test_a_finished_run_can_be_given_more_epochs(settings: Settings, tmp_path: Path) -> None:
    run(settings(), str(tmp_path), NO_REPORTER)
    run(settings("epochs=3", f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert [metrics.epoch for metrics in read_metrics(tmp_path / "metrics.csv")] == [1, 2, 3]


@pytest.mark.parametrize("other", ["model.width=8", "model.depths=[2,1]"])
def test_resuming_with_another_model_is_refused(other: str, settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    before = (tmp_path / "result.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: of another model: "):
        run(settings(other, f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert (tmp_path / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    "other",
    ["optimizer=adam", "scheduler=cosine", "optimizer.decay_norms_and_biases=false"],
    ids=lambda o: o.split("=")[0],
)
def test_resuming_with_another_optimizer_or_scheduler_is_told(other: str, settings: Settings, tmp_path: Path) -> None:
    """What a checkpoint of other settings cannot give must not become a stack trace or a silently wrong run."""
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        run(settings(other, f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)


def test_resuming_where_there_is_no_checkpoint_is_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing/checkpoint\.pt: no such checkpoint"):
        run(settings(f"resume={tmp_path / 'nothing'}"), str(tmp_path), NO_REPORTER)


def test_the_split_does_not_depend_on_the_training_seed(settings: Settings) -> None:
    one, other = (load_parts(settings(f"seed={seed}")) for seed in (0, 1))
    assert one.val.fingerprint == other.val.fingerprint and one.train.fingerprint == other.train.fingerprint
    moved = load_parts(settings("data.val_seed=1"))
    assert moved.val.fingerprint != one.val.fingerprint


def test_the_limit_comes_before_the_split(settings: Settings) -> None:
    parts = load_parts(settings("data.limit=200", "data.val_size=0.25"))
    assert (len(parts.train), len(parts.val)) == (150, 50)
    assert parts.val.labels.bincount(minlength=10).tolist() == [5] * 10


def test_weights_and_order_depend_on_the_seed(settings: Settings) -> None:
    def weights_and_order(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        config = settings(f"seed={seed}")
        torch.manual_seed(123)
        trainer = build_trainer(config, load_parts(config), torch.device("cpu"))
        return trainer.model.conv1.weight, torch.cat([labels for _, labels in trainer.train.epoch(1)])

    (w0, o0), (again, order), (w1, o1) = (weights_and_order(seed) for seed in (0, 0, 1))
    assert torch.equal(w0, again) and torch.equal(o0, order)
    assert not torch.equal(w0, w1) and not torch.equal(o0, o1)


def test_statistics_are_those_of_the_training_split_or_the_configs(settings: Settings) -> None:
    parts = load_parts(settings())
    pixels = parts.train.images.double() / 255
    assert parts.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert parts.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    given = load_parts(settings("data.mean=[0.1,0.2,0.3]", "data.std=[1,2,3]"))
    assert (given.mean, given.std) == ([0.1, 0.2, 0.3], [1, 2, 3])
    off = load_parts(settings("data.normalize=false"))
    assert (off.mean, off.std) == ([0.0] * 3, [1.0] * 3)


def test_augmentation_is_for_training_only(settings: Settings) -> None:
    config = settings("data.flip=true", "data.crop=4")
    trainer = build_trainer(config, load_parts(config), torch.device("cpu"))
    assert (trainer.train.crop, trainer.train.flip, trainer.train.seed) == (4, True, 0)
    assert (trainer.val.crop, trainer.val.flip, trainer.val.seed) == (0, False, None)


@pytest.mark.parametrize("precision, dtype", [("fp32", "float32"), ("bf16", "bfloat16")])
def test_precision_is_what_the_config_says(precision: str, dtype: str, settings: Settings, tmp_path: Path) -> None:
    config = settings(f"precision={precision}", "epochs=1")
    trainer = build_trainer(config, load_parts(config), torch.device("cpu"))
    with trainer.step.autocast():
        logits = trainer.model(next(iter(trainer.train.epoch(1)))[0])
    assert logits.dtype == getattr(torch, dtype)
    run(config, str(tmp_path), NO_REPORTER)
    assert read_result(tmp_path)["device"]["precision"] == dtype


def test_channels_last_is_what_the_config_says(settings: Settings) -> None:
    for setting in (True, False):
        config = settings(f"channels_last={setting}")
        weight = build_trainer(config, load_parts(config), torch.device("cpu")).model.layer1[0].conv2.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == setting


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("every", [True, False])
def test_weight_decay_spares_norms_and_biases_where_asked(optimizer: str, every: bool, settings: Settings) -> None:
    chosen = f"optimizer.decay_norms_and_biases={every}"
    config = settings(f"optimizer={optimizer}", "optimizer.weight_decay=0.1", chosen)
    trainer = build_trainer(config, load_parts(config), torch.device("cpu"))
    assert type(trainer.optimizer).__name__.lower() == optimizer
    for group in trainer.optimizer.param_groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.1 if every or p.ndim >= 2 else 0.0)


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
    "a pickle by way of this project": "{_target_: cifar.optim.torch.load, f: DIR/poison.pt, weights_only: false}",
    "a repository": "{_target_: torchvision.models._api.load, repo_or_dir: DIR, model: entry, source: local}",
    "a command by way of an allowed package": "{_target_: timm.models._hub.os.system, command: 'touch DIR/marker'}",
    "a model with a poisoned checkpoint": (
        "{_target_: timm.create_model, model_name: resnet10t, checkpoint_path: DIR/poison.pt}"
    ),
}
"""Ways to have a config touch DIR/marker."""


@pytest.mark.parametrize("way", HOSTILE)
@pytest.mark.parametrize("inside", [False, True], ids=["as the model", "within a model"])
def test_a_hostile_model_runs_nothing_and_is_told(
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


def test_a_model_of_an_unknown_name_is_told(compose: Any, tiny: list[str], tmp_path: Path) -> None:
    overrides = [override for override in tiny if not override.startswith("model.")]
    with pytest.raises(ConfigError, match=r"model: .*nonsense"):
        run(check(compose(*overrides, "model=torchvision", "model.name=nonsense")), str(tmp_path), NO_REPORTER)


def test_a_validation_split_that_cannot_be_made_is_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises((DataError, ConfigError), match=r"val_size"):
        run(settings("data.limit=null", "data.val_size=1610"), str(tmp_path), NO_REPORTER)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_what_the_config_says(threads: int, settings: Settings) -> None:
    before = torch.get_num_threads()
    try:
        set_up(settings(f"threads={threads}"))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_cuda_where_there_is_none_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"device=cuda: .*allowed: auto, cpu"):
        set_up(settings("device=cuda"))
    assert set_up(settings("device=auto")) == torch.device("cpu")


@pytest.mark.parametrize("value", ["auto", "false"])
def test_a_cpu_replays_no_graphs(value: str, settings: Settings) -> None:
    config = settings(f"cuda_graph={value}")
    assert isinstance(build_trainer(config, load_parts(config), torch.device("cpu")).step, EagerStep)


def test_graphs_that_a_cpu_cannot_have_are_refused(settings: Settings) -> None:
    config = settings("cuda_graph=true")
    with pytest.raises(ConfigError, match=r"cuda_graph=true: not on device=cpu; allowed: auto, false"):
        build_trainer(config, load_parts(config), torch.device("cpu"))


def test_runs_of_one_process_share_the_images_on_the_device(settings: Settings) -> None:
    one, other = (
        build_trainer(config, load_parts(config), torch.device("cpu"))
        for config in (settings("seed=1"), settings("seed=2", "batch_size=8"))
    )
    for part in ("train", "val"):
        assert getattr(one, part).windows.data_ptr() == getattr(other, part).windows.data_ptr()


def test_others_that_train_after_a_step_change_no_bit_of_a_run(
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

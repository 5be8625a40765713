"""What a run trains, on what, and how the trained model is loaded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import TRANSFER

from cifar.experiment import build_trainer, load_splits, run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER
from cifar.results import read_result
from cifar.tasks import Classifier, InputError
from cifar.trained import load_classifier
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError
from cifar.training.step import EagerStep

CPU = torch.device("cpu")
Settings = Callable[..., Config]


def test_the_split_does_not_depend_on_the_training_seed(settings: Settings) -> None:
    one, other = (load_splits(settings(f"seed={seed}")) for seed in (0, 1))
    assert one.val.fingerprint == other.val.fingerprint and one.train.fingerprint == other.train.fingerprint
    moved = load_splits(settings("data.val_seed=1"))
    assert moved.val.fingerprint != one.val.fingerprint


def test_the_limit_comes_before_the_split(settings: Settings) -> None:
    splits = load_splits(settings("data.limit=200", "data.val_size=0.25"))
    assert (len(splits.train), len(splits.val)) == (150, 50)
    assert splits.val.labels.bincount(minlength=10).tolist() == [5] * 10


def test_weights_and_order_depend_on_the_seed(settings: Settings) -> None:
    def weights_and_order(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        config = settings(f"seed={seed}")
        torch.manual_seed(123)
        trainer = build_trainer(config, load_splits(config), CPU)
        return trainer.model.conv1.weight, torch.cat([labels for _, labels in trainer.train.epoch(1)])

    (w0, o0), (same_w, same_o), (w1, o1) = (weights_and_order(seed) for seed in (0, 0, 1))
    assert torch.equal(w0, same_w) and torch.equal(o0, same_o)
    assert not torch.equal(w0, w1) and not torch.equal(o0, o1)


def test_statistics_are_those_of_the_training_split_or_the_configs(settings: Settings) -> None:
    splits = load_splits(settings())
    pixels = splits.train.images.double() / 255
    assert splits.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert splits.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    chosen = load_splits(settings("data.mean=[0.1,0.2,0.3]", "data.std=[1,2,3]"))
    assert (chosen.mean, chosen.std) == ([0.1, 0.2, 0.3], [1, 2, 3])
    off = load_splits(settings("data.normalize=false"))
    assert (off.mean, off.std) == ([0.0] * 3, [1.0] * 3)


def test_augmentation_is_for_training_only(settings: Settings) -> None:
    config = settings("augment.flip=true", "augment.crop=4")
    trainer = build_trainer(config, load_splits(config), CPU)
    assert (trainer.train.crop, trainer.train.flip, trainer.train.seed) == (4, True, 0)
    assert (trainer.val.crop, trainer.val.flip, trainer.val.seed) == (0, False, None)


@pytest.mark.parametrize("precision, dtype", [("fp32", "float32"), ("bf16", "bfloat16")])
def test_precision_is_what_the_config_says(precision: str, dtype: str, settings: Settings, tmp_path: Path) -> None:
    config = settings(f"precision={precision}", "epochs=1")
    trainer = build_trainer(config, load_splits(config), CPU)
    with trainer.step.autocast():
        logits = trainer.model(next(iter(trainer.train.epoch(1)))[0])
    assert logits.dtype == getattr(torch, dtype)
    run(config, str(tmp_path), NO_REPORTER)
    assert read_result(tmp_path)["device"]["precision"] == dtype


def test_channels_last_is_what_the_config_says(settings: Settings) -> None:
    for setting in (True, False):
        config = settings(f"channels_last={setting}")
        weight = build_trainer(config, load_splits(config), CPU).model.layer1[0].conv2.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == setting


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("every", [True, False])
def test_weight_decay_spares_norms_and_biases_where_asked(optimizer: str, every: bool, settings: Settings) -> None:
    chosen = f"optimizer.decay_norms_and_biases={every}"
    config = settings(f"optimizer={optimizer}", "optimizer.weight_decay=0.1", chosen)
    trainer = build_trainer(config, load_splits(config), CPU)
    assert type(trainer.optimizer).__name__.lower() == optimizer
    for group in trainer.optimizer.param_groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.1 if every or p.ndim >= 2 else 0.0)


@pytest.mark.parametrize("value", ["auto", "false"])
def test_a_cpu_replays_no_graphs(value: str, settings: Settings) -> None:
    config = settings(f"cuda_graph={value}")
    assert isinstance(build_trainer(config, load_splits(config), CPU).step, EagerStep)


def test_graphs_that_a_cpu_cannot_have_are_refused(settings: Settings) -> None:
    config = settings("cuda_graph=true")
    with pytest.raises(ConfigError, match=r"cuda_graph=true: not possible on device=cpu; allowed: auto, false"):
        build_trainer(config, load_splits(config), CPU)


FORMER_TARGETS = {
    "cifar.models.resnet.BottleneckResNet": "cifar.resnet.BottleneckResNet",
    "cifar.models.pretrained.load_backbone": "cifar.transfer.load_backbone",
}


@pytest.mark.parametrize("mode", ["none", "frozen", "finetune"])
def test_a_best_pt_of_an_earlier_version_is_loaded(mode: str, compose: Any, tiny: list[str], tmp_path: Path) -> None:
    overrides = tiny
    if mode != "none":
        overrides = [*(line for line in tiny if not line.startswith("model.")), f"transfer={mode}", *TRANSFER]
    config = check(compose(*overrides, "epochs=1", f"cache.dir={tmp_path}"))
    run(config, str(tmp_path), NO_REPORTER)
    images = load_splits(config).val.images
    expected = load_classifier(tmp_path / "best.pt").logits(images)
    best = checkpoint.load(tmp_path / "best.pt")
    best["settings"]["_target_"] = FORMER_TARGETS[best["settings"]["_target_"]]
    if mode != "none":
        backbone = best["transfer"]["backbone"]
        backbone["_target_"] = FORMER_TARGETS[backbone["_target_"]]
    checkpoint.save(tmp_path / "old.pt", best)
    assert torch.equal(load_classifier(tmp_path / "old.pt").logits(images), expected)


@pytest.mark.parametrize("missing", ["settings", "transfer", "classes"])
def test_another_checkpoint_is_not_a_best_pt(missing: str, settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    best = checkpoint.load(tmp_path / "best.pt")
    del best[missing]
    checkpoint.save(tmp_path / "other.pt", best)
    with pytest.raises(CheckpointError, match=rf"other\.pt: not a best\.pt of this program \('{missing}' is missing\)"):
        load_classifier(tmp_path / "other.pt")


BATCH = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)


NO_BATCHES: dict[str, tuple[Any, str]] = {
    "floats": (BATCH.float(), r"float32 \(2, 3, 32, 32\)"),
    "normalised": (BATCH / 255, "float32"),
    "whole numbers": (BATCH.long(), "int64"),
    "truth values": (BATCH.bool(), "bool"),
    "one image": (BATCH[0], r"uint8 \(3, 32, 32\)"),
    "a batch of batches": (BATCH[None], r"uint8 \(1, 2, 3, 32, 32\)"),
    "smaller": (BATCH[:, :, :28, :28], r"uint8 \(2, 3, 28, 28\)"),
    "not square": (BATCH[:, :, :16], r"uint8 \(2, 3, 16, 32\)"),
    "grey": (BATCH[:, :1], r"uint8 \(2, 1, 32, 32\)"),
    "channels last": (BATCH.permute(0, 2, 3, 1), r"uint8 \(2, 32, 32, 3\)"),
    "numpy": (BATCH.numpy(), "ndarray"),
    "a list": ([BATCH[0]], "list"),
    "nothing": (None, "NoneType"),
}


@pytest.mark.parametrize("kind", NO_BATCHES)
@pytest.mark.parametrize("mode", ["none", "frozen"])
def test_what_is_no_batch_of_images_is_refused(mode: str, kind: str, trained: Callable[[str], Classifier]) -> None:
    images, what = NO_BATCHES[kind]
    for call in (trained(mode).predict, trained(mode).logits):
        with pytest.raises(InputError, match=rf"{what}.*allowed: a tensor uint8 \(B, 3, 32, 32\)"):
            call(images)


@pytest.mark.parametrize("mode", ["none", "frozen"])
def test_any_number_of_images_is_classified(mode: str, trained: Callable[[str], Classifier]) -> None:
    classifier = trained(mode)
    assert [len(classifier.predict(BATCH[:count])) for count in (0, 1, 2)] == [0, 1, 2]
    assert classifier.logits(BATCH[:0]).shape == (0, len(classifier.classes))


@pytest.fixture(scope="module")
def trained(compose: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Classifier]:
    """trained(mode): a classifier of a run of one epoch."""

    @functools.cache
    def train(mode: str) -> Classifier:
        folder = tmp_path_factory.mktemp(mode)
        overrides = tiny
        if mode != "none":
            overrides = [*(line for line in tiny if not line.startswith("model.")), f"transfer={mode}", *TRANSFER]
        run(check(compose(*overrides, "epochs=1", f"cache.dir={folder}")), str(folder), NO_REPORTER)
        return load_classifier(folder / "best.pt")

    return train

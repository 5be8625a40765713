"""The same promises on a CUDA device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar import checkpoint, optim
from cifar.config import Config, check
from cifar.experiment import build_trainer, load_parts, run
from cifar.loader import Batches
from cifar.results import SILENT, EpochMetrics, Pruned, Reporter, read_metrics, read_result
from cifar.trainer import Trainer

pytestmark = pytest.mark.cuda
OPTIONS = [["precision=fp32"], ["precision=bf16", "optimizer=adam", "scheduler=onecycle"], ["loss.l2=0.01"]]


@pytest.fixture
def settings(compose: Any, tiny: list[str]) -> Callable[..., Config]:
    """settings(*overrides): the checked config of a tiny run on the device."""
    overrides = [override for override in tiny if not override.startswith("device=")]
    return lambda *more: check(compose(*overrides, "device=cuda", "data.limit=300", "data.flip=true", *more))


class Stop(Reporter):
    def report(self, metrics: EpochMetrics) -> None:
        raise Pruned("so far")


def metrics_of(place: Path, timeless: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    return [timeless(metrics) for metrics in read_metrics(place / "metrics.csv")]


def assert_equal_weights(one: Path, other: Path) -> None:
    for name in ("best.pt", "checkpoint.pt"):
        a, b = (checkpoint.load(place / name)["model"] for place in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_training_learns_and_writes_its_results(
    options: list[str], settings: Callable[..., Config], tmp_path: Path
) -> None:
    run(settings("epochs=5", "model.width=16", "test=true", *options), str(tmp_path), SILENT)
    history, result = read_metrics(tmp_path / "metrics.csv"), read_result(tmp_path)
    assert history[-1].train_loss < history[0].train_loss
    assert (result["status"], result["device"]["type"]) == ("finished", "cuda")
    assert result["device"]["name"] == torch.cuda.get_device_name()
    assert "test" in result


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_equal_seeds_give_equal_runs(
    options: list[str], settings: Callable[..., Config], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
        run(settings("epochs=3", *options), str(place), SILENT)
    assert metrics_of(places[0], timeless) == metrics_of(places[1], timeless)
    assert_equal_weights(*places)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_a_resumed_run_equals_one_never_interrupted(
    options: list[str], settings: Callable[..., Config], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    for place in (whole, part):
        place.mkdir()
    run(settings("epochs=3", *options), str(whole), SILENT)
    with pytest.raises(Pruned):
        run(settings("epochs=3", *options), str(part), Stop())
    torch.manual_seed(99)
    run(settings("epochs=3", *options, f"resume={part}"), str(part), SILENT)
    assert metrics_of(part, timeless) == metrics_of(whole, timeless)
    assert_equal_weights(part, whole)


def test_dropout_resumes_too(
    make_trainer: Callable[..., Trainer], tmp_path: Path, timeless: Callable[[Any], dict[str, Any]]
) -> None:
    whole = make_trainer(optim.cosine, device="cuda")
    expected = [timeless(metrics) for metrics in whole.epochs()]
    first = make_trainer(optim.cosine, device="cuda")
    epochs = first.epochs()
    found = [timeless(next(epochs)) for _ in range(2)]
    checkpoint.save(tmp_path / "x.pt", first.state_dict())
    second = make_trainer(optim.cosine, device="cuda")
    torch.manual_seed(99)
    second.load_state_dict(checkpoint.load(tmp_path / "x.pt", "cuda"))
    assert found + [timeless(metrics) for metrics in second.epochs()] == expected


def test_a_checkpoint_goes_on_on_the_cpu(settings: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(Pruned):
        run(settings(), str(tmp_path), Stop())
    run(settings("device=cpu", f"resume={tmp_path}"), str(tmp_path), SILENT)
    assert len(read_metrics(tmp_path / "metrics.csv")) == 2


def test_batches_are_those_of_the_cpu(images_of: Callable[..., Any]) -> None:
    images, labels = images_of(50)
    made = [
        Batches(images, labels, 16, torch.device(device), [0.5] * 3, [0.25] * 3, crop=4, flip=True, seed=1)
        for device in ("cpu", "cuda")
    ]
    for (a, y), (b, z) in zip(made[0].epoch(2), made[1].epoch(2), strict=True):
        assert torch.equal(y, z.cpu()) and b.is_cuda and b.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b.cpu(), rtol=1e-6, atol=1e-6)


def test_an_epoch_synchronises_no_more_often_for_more_batches(settings: Callable[..., Config]) -> None:
    counts = []
    for batch_size in (60, 10):
        config = settings("precision=bf16", f"batch_size={batch_size}", "scheduler=onecycle")
        trainer = build_trainer(config, load_parts(config), torch.device("cuda"))
        epochs = trainer.epochs()
        next(epochs)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                next(epochs)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(warning.message) for warning in caught))
    assert 0 < counts[1] <= counts[0] <= 10

"""Resuming: a run that was stopped continues exactly where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reporters import throw

from cifar.experiment import run
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER, Diverged, Pruned
from cifar.results import read_metrics, read_result
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError

Settings = Callable[..., Config]


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
    resumed = part if place == "same" else tmp_path / "other"
    for directory in {whole, part, resumed}:
        directory.mkdir()
    returned = run(settings("epochs=3", *options), str(whole), NO_REPORTER)
    with pytest.raises(Pruned):
        run(settings("epochs=3", *options), str(part), throw(Pruned("so far")))
    assert run(settings("epochs=3", *options, f"resume={part}"), str(resumed), NO_REPORTER) == returned
    expected, actual = ([timeless(m) for m in read_metrics(d / "metrics.csv")] for d in (whole, resumed))
    assert actual == expected
    for name in ("best.pt", "checkpoint.pt"):
        a, b = tensors(whole / name), tensors(resumed / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert read_result(resumed)["status"] == "finished"


def test_a_finished_run_can_be_trained_for_more_epochs(settings: Settings, tmp_path: Path) -> None:
    run(settings(), str(tmp_path), NO_REPORTER)
    run(settings("epochs=3", f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert [metrics.epoch for metrics in read_metrics(tmp_path / "metrics.csv")] == [1, 2, 3]


def test_a_run_without_a_finished_epoch_starts_with_the_first_one(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        run(settings("optimizer.lr=1e30", "precision=fp32"), str(tmp_path), NO_REPORTER)
    run(settings(f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert [metrics.epoch for metrics in read_metrics(tmp_path / "metrics.csv")] == [1, 2]
    assert read_result(tmp_path)["status"] == "finished"


@pytest.mark.parametrize("other", ["model.width=8", "model.depths=[2,1]"])
def test_resuming_with_another_model_is_refused(other: str, settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    before = (tmp_path / "result.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: holds the weights of another model: "):
        run(settings(other, f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert (tmp_path / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    "other",
    ["optimizer=adam", "scheduler=cosine", "optimizer.decay_norms_and_biases=false"],
    ids=lambda o: o.split("=")[0],
)
def test_resuming_with_another_optimizer_or_scheduler_is_an_error(
    other: str, settings: Settings, tmp_path: Path
) -> None:
    """Neither a stack trace nor a run that silently differs."""
    run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        run(settings(other, f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)


def test_resuming_where_there_is_no_checkpoint_is_an_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing/checkpoint\.pt: no such checkpoint"):
        run(settings(f"resume={tmp_path / 'nothing'}"), str(tmp_path), NO_REPORTER)

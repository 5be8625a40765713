"""A run that is resumed with other settings: each takes effect from the next epoch, or is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cifar.experiment import run
from cifar.options.config import Config
from cifar.options.option import ConfigError, groups
from cifar.options.resume import check_resume
from cifar.reporting import NO_REPORTER, EpochMetrics
from cifar.results import RunDirectory, read_metrics
from cifar.training import checkpoint

Settings = Callable[..., Config]
ONE = ("data.limit=120", "model.depths=[1]", "model.width=2")


@pytest.fixture
def train(settings: Settings, tmp_path: Path) -> Callable[..., Path]:
    """train(name, *overrides): run into a folder, resuming the run that is there; returns the folder."""

    def trained(name: str, *overrides: str) -> Path:
        folder = tmp_path / name
        resume = [f"resume={folder}"] if folder.exists() else []
        folder.mkdir(exist_ok=True)
        run(settings(*ONE, *overrides, *resume), str(folder), NO_REPORTER)
        return folder

    return trained


def rates(folder: Path) -> list[float]:
    return [metrics.lr for metrics in read_metrics(folder / "metrics.csv")]


def group(folder: Path) -> dict[str, Any]:
    """The hyperparameters of the first parameter group, as the checkpoint holds them."""
    state = checkpoint.load(folder / "checkpoint.pt")
    return dict(state["optimizer"]["param_groups"][0])


@pytest.mark.parametrize(
    "option, change, key, value",
    [
        ("optimizer=sgd", "optimizer.momentum=0.5", "momentum", 0.5),
        ("optimizer=sgd", "optimizer.weight_decay=0.1", "weight_decay", 0.1),
        ("optimizer=sgd", "optimizer.nesterov=true", "nesterov", True),
        ("optimizer=adam", "optimizer.betas=[0.5,0.9]", "betas", (0.5, 0.9)),
        ("optimizer=adamw", "optimizer.eps=0.01", "eps", 0.01),
        ("optimizer=nadam", "optimizer.momentum_decay=0.1", "momentum_decay", 0.1),
        ("optimizer=radam", "optimizer.betas=[0.5,0.9]", "betas", [0.5, 0.9]),
        ("optimizer=rmsprop", "optimizer.alpha=0.5", "alpha", 0.5),
        ("optimizer=adagrad", "optimizer.lr_decay=0.1", "lr_decay", 0.1),
        ("optimizer=adam", "optimizer.lr=0.5", "lr", 0.5),
    ],
)
def test_a_setting_of_the_optimizer_is_that_of_the_next_step(
    option: str, change: str, key: str, value: Any, train: Callable[..., Path]
) -> None:
    unchanged, changed = (train(name, "epochs=1", option) for name in ("a", "b"))
    train("a", "epochs=2", option)
    train("b", "epochs=2", option, change)
    assert group(changed)[key] == value
    weights, others = (checkpoint.load(place / "checkpoint.pt")["model"] for place in (unchanged, changed))
    assert any(not torch.equal(weights[name], others[name]) for name in weights), "the change had no effect"


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_a_schedule_of_steps_is_that_of_a_run_of_the_new_total(scheduler: str, train: Callable[..., Path]) -> None:
    """lr no longer rises after its end, and no step exceeds its total."""
    train("extended", "epochs=3", f"scheduler={scheduler}")
    extended = train("extended", "epochs=6", f"scheduler={scheduler}")
    fresh = train("fresh", "epochs=6", f"scheduler={scheduler}")
    assert rates(extended)[3:] == rates(fresh)[3:]
    assert rates(extended)[3:] == sorted(rates(extended)[3:], reverse=True)
    train("shortened", "epochs=2", f"scheduler={scheduler}")
    changes = ("epochs=4", "optimizer.lr=0.2", *(["scheduler.warmup=0.5"] if scheduler == "onecycle" else []))
    assert (
        rates(train("shortened", f"scheduler={scheduler}", *changes))[2:]
        == (rates(train("other", f"scheduler={scheduler}", *changes))[2:])
    )


def test_plateau_takes_over_patience_and_factor_and_keeps_what_it_reduced(train: Callable[..., Path]) -> None:
    """With a rate that changes no prediction, no epoch is better than the first."""
    still = ("optimizer.lr=1e-12", "scheduler=plateau", "scheduler.patience=0")
    train("run", "epochs=2", *still, "scheduler.factor=0.5")
    folder = train("run", "epochs=3", *still, "scheduler.factor=0.5")
    assert rates(folder) == pytest.approx([1e-12, 1e-12, 5e-13]), "more epochs change no rate"
    train("run", "epochs=5", *still, "scheduler.factor=0.1")
    assert rates(folder)[3:] == pytest.approx([2.5e-13, 2.5e-14])
    train("run", "epochs=7", *still[:2], "scheduler.patience=9", "scheduler.factor=0.1")
    assert rates(folder)[5:] == pytest.approx([2.5e-15] * 2)


def test_the_l2_term_takes_effect(train: Callable[..., Path]) -> None:
    losses = []
    for name, l2 in (("a", 0.0), ("b", 0.5)):
        train(name, "epochs=1")
        folder = train(name, "epochs=2", f"loss.l2={l2}")
        losses.append([metrics.train_loss for metrics in read_metrics(folder / "metrics.csv")])
    assert losses[0][0] == losses[1][0] and losses[0][1] != losses[1][1]


def test_a_change_that_was_recorded_but_not_yet_trained_is_not_lost(
    settings: Settings, train: Callable[..., Path]
) -> None:
    """A start that was killed in its first epoch had recorded the new rate; the checkpoint is of the former one."""
    folder = train("run", "epochs=1", "optimizer.lr=0.05")
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("optimizer:\n  lr: 0.2\n")
    train("run", "epochs=2", "optimizer.lr=0.2")
    assert rates(folder) == [0.05, 0.2]


def test_every_key_that_may_change_is_a_key(settings: Settings) -> None:
    for base in groups().values():
        for option in base.options.values():
            fields: Any = option
            assert set(option.changeable) <= {field.name for field in dataclasses.fields(fields)}


@pytest.mark.parametrize(
    "change",
    ["optimizer.momentum=0.5", "optimizer.centered=true", "optimizer.decay_norms_and_biases=false", "augment.crop=2"],
)
def test_what_cannot_take_effect_is_refused(change: str, settings: Settings, tmp_path: Path) -> None:
    """RMSprop without momentum has no buffer for it."""
    before = settings(*ONE, "optimizer=rmsprop", "optimizer.momentum=0", "optimizer.centered=false")
    text = (
        "optimizer: {_target_: torch.optim.RMSprop, momentum: 0.0, decay_norms_and_biases: true, centered: false}\n"
        "data: {source: digits, crop: 0}\n"
    )
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(text)
    now = settings(
        *(*ONE, "optimizer=rmsprop", "optimizer.momentum=0", "optimizer.centered=false"), change, f"resume={tmp_path}"
    )
    check_resume(dataclasses.replace(before, resume=str(tmp_path)))
    with pytest.raises(ConfigError, match=rf"{change.split('=')[0]}=.*: was .* resumed"):
        check_resume(now)


@pytest.mark.parametrize(
    "change", ["optimizer.lr=0.5", "loss.l2=0.1", "scheduler.patience=9", "loss.label_smoothing=0.1"]
)
def test_what_no_epoch_is_left_for_is_refused(change: str, settings: Settings, tmp_path: Path) -> None:
    """It was recorded beside the metrics of a run that had never used it."""
    before = settings(*ONE, "epochs=1")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(before)))
    RunDirectory(tmp_path).start([], resumed=False)
    RunDirectory(tmp_path).append(EpochMetrics(1, 1.0, 0.5, 1.0, 0.5, 0.01, 1.0, 1.0))
    resumed = (*ONE, f"resume={tmp_path}")
    with pytest.raises(ConfigError, match=rf"{change}.*: was .*no epoch is left.*allowed: epochs=N above 1"):
        check_resume(settings(*resumed, "epochs=1", change))
    check_resume(settings(*resumed, "epochs=2", change))
    check_resume(settings(*resumed, "epochs=1", "threads=2", "test=true", "cache.dir=c"))
    check_resume(settings(*resumed, "epochs=1", "test=true", "data.check_duplicates=near"))

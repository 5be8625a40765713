"""The epoch loop: metrics, divergence, stopping, resuming."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn

from cifar.reporting import Diverged, EpochMetrics
from cifar.training import checkpoint, schedulers
from cifar.training.trainer import Evaluation, Trainer, evaluate

MakeTrainer = Callable[..., Trainer]
SCHEDULES = [
    (schedulers.plateau, {"patience": 0, "factor": 0.5}),
    (schedulers.cosine, {}),
    (schedulers.onecycle, {"warmup": 0.3}),
    (schedulers.constant, {}),
    (schedulers.step, {"step_size": 1, "gamma": 0.5}),
    (schedulers.poly, {"power": 2.0}),
]


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))


def test_an_epochs_metrics_have_the_columns_of_the_design(make_trainer: MakeTrainer) -> None:
    epochs = list(make_trainer(total=2).epochs())
    assert [field.name for field in dataclasses.fields(EpochMetrics)] == [
        *("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"),
        *("lr", "seconds", "images_per_second"),
        *("val_balanced_accuracy", "val_macro_f1"),
    ]
    assert [metrics.epoch for metrics in epochs] == [1, 2]
    for metrics in epochs:
        assert 0 <= metrics.train_accuracy <= 1 and 0 <= metrics.val_accuracy <= 1
        assert metrics.lr == 0.1 and metrics.seconds > 0
        assert metrics.images_per_second == pytest.approx(22 / metrics.seconds)
        assert all(type(getattr(metrics, field.name)) in (int, float) for field in dataclasses.fields(metrics))


def test_losses_are_means_over_images_ragged_batches_too(make_trainer: MakeTrainer) -> None:
    """With lr 0 and a model without state, an epoch's loss is that of all its images at once."""
    trainer = make_trainer(model=linear(), lr=0.0, total=2)
    for metrics in trainer.epochs():
        for batches, loss, accuracy in (
            (trainer.train.epoch(metrics.epoch), metrics.train_loss, metrics.train_accuracy),
            (trainer.val.epoch(1), metrics.val_loss, metrics.val_accuracy),
        ):
            images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
            logits = trainer.model(images).detach()
            assert loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
            assert accuracy == pytest.approx(float((logits.argmax(1) == labels).float().mean()), rel=1e-6)


def test_training_is_the_plain_loop(make_trainer: MakeTrainer) -> None:
    trainer, plain = make_trainer(model=linear(), total=2), linear()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for metrics in trainer.epochs():
        for images, labels in trainer.train.epoch(metrics.epoch):
            optimizer.zero_grad()
            F.cross_entropy(plain(images), labels).backward()
            optimizer.step()
        for a, b in zip(trainer.model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_lr_is_that_of_the_epochs_last_step(make_trainer: MakeTrainer) -> None:
    rates = [metrics.lr for metrics in make_trainer(schedulers.cosine, total=2).epochs()]
    steps = torch.tensor([5.0, 11.0])
    expected = 0.05 * (1 + torch.cos(torch.pi * steps / 12))
    assert rates == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_scheduler_receives_the_validation_accuracy(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(schedulers.plateau, model=linear(), total=3, patience=0, factor=0.5)
    trainer.val.mean.zero_()
    trainer.val.std.fill_(float("inf"))  # black images: the same prediction for all of them
    trainer.val.labels.fill_(0)
    trainer.model[1].bias.requires_grad_(False)
    trainer.model[1].bias.data[0] = 1.0  # and always the correct one: no epoch is better than the first
    assert [metrics.lr for metrics in trainer.epochs()] == pytest.approx([0.1, 0.1, 0.05])


def test_the_caller_may_stop_between_epochs(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(total=4)
    for metrics in trainer.epochs():
        if metrics.epoch == 2:
            break
    assert trainer.done == 2
    assert [metrics.epoch for metrics in trainer.epochs()] == [3, 4]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_epoch(value: float, make_trainer: MakeTrainer) -> None:
    trainer, seen = make_trainer(model=linear(), total=4), []
    with pytest.raises(Diverged, match=r"epoch 3 .*lr 0\.1.*learning rate"):
        for metrics in trainer.epochs():
            seen.append(metrics.epoch)
            if metrics.epoch == 2:
                trainer.model[1].bias.data[0] = value
    assert seen == [1, 2] and trainer.done == 2


def test_a_validation_loss_that_is_not_finite_ends_the_run(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(model=linear())
    trainer.val.mean.fill_(float("nan"))
    with pytest.raises(Diverged, match="epoch 1 "):
        list(trainer.epochs())


def test_a_rate_far_too_high_diverges(make_trainer: MakeTrainer) -> None:
    with pytest.raises(Diverged):
        list(make_trainer(model=linear(), lr=1e38).epochs())


def test_after_step_stops_where_it_raises(make_trainer: MakeTrainer) -> None:
    trainer, steps = make_trainer(), []

    class Stop(Exception):
        pass

    def after_step() -> None:
        steps.append(None)
        if len(steps) == 8:
            raise Stop

    with pytest.raises(Stop):
        list(trainer.epochs(after_step))
    assert (len(steps), trainer.done) == (8, 1)


def test_progress_sees_every_batch(make_trainer: MakeTrainer) -> None:
    seen = []

    def progress(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches:
            seen.append(len(labels))
            yield images, labels

    trainer = dataclasses.replace(make_trainer(total=1), progress=progress)
    list(trainer.epochs())
    assert seen == [4, 4, 4, 4, 4, 2]


@pytest.mark.parametrize(
    "schedule, options", SCHEDULES, ids=["plateau", "cosine", "onecycle", "constant", "step", "poly"]
)
def test_a_resumed_run_equals_one_never_interrupted_bit_for_bit(
    schedule: Callable[..., Any],
    options: dict[str, Any],
    make_trainer: MakeTrainer,
    timeless: Callable[[Any], dict[str, Any]],
    tmp_path: Path,
) -> None:
    whole = make_trainer(schedule, total=4, **options)
    expected = [timeless(metrics) for metrics in whole.epochs()]
    first = make_trainer(schedule, total=4, **options)
    epochs = first.epochs()
    resumed = [timeless(next(epochs)) for _ in range(2)]
    checkpoint.save(tmp_path / "checkpoint.pt", first.state_dict())
    second = make_trainer(schedule, total=4, **options)
    torch.manual_seed(1234)
    for p in second.model.parameters():
        p.data.normal_()
    second.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
    resumed += [timeless(metrics) for metrics in second.epochs()]
    assert resumed == expected
    state = second.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.model.state_dict().items())


def test_dropout_depends_on_the_random_state_that_resuming_restores(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Guards the test above: with another random state, the remaining epochs differ."""
    first = make_trainer(total=2)
    epochs = first.epochs()
    next(epochs)
    state = first.state_dict()
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    losses = []
    for seed in (1, 2):
        trainer = make_trainer(total=2)
        trainer.load_state_dict(checkpoint.load(tmp_path / "checkpoint.pt"))
        torch.manual_seed(seed)
        losses.append(next(trainer.epochs()).train_loss)
    assert losses[0] != losses[1]


def test_evaluation_is_in_eval_mode_and_changes_nothing(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    next(trainer.epochs())
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = (evaluate(trainer.score, trainer.val)[0] for _ in range(2))
    assert torch.equal(first, second), "dropout was on"
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.model.state_dict().items())
    trainer.model.eval()
    images, labels = (torch.cat(part) for part in zip(*trainer.val.epoch(1), strict=True))
    with torch.no_grad():
        logits = trainer.model(images)
    evaluation = Evaluation.of(first)
    assert evaluation.loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert evaluation.accuracy == float((logits.argmax(1) == labels).double().mean())
    assert evaluation.confusion.tolist() == confusion_matrix(labels, logits.argmax(1), labels=range(3)).tolist()


def test_training_follows_evaluation_in_training_mode(make_trainer: MakeTrainer) -> None:
    trainer, modes = make_trainer(total=2), []
    list(trainer.epochs(lambda: modes.append(trainer.model.training)))
    assert all(modes) and len(modes) == 12

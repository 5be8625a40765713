"""The objective: what is best, when a run stops early, what is written of the classes; by each of its values."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support

from cifar.experiment import run
from cifar.objective import OBJECTIVES, balanced_accuracy, macro_f1
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER, EpochMetrics, Reporter
from cifar.results import RunDirectory, best_of, read_metrics, read_result, stopped_early
from cifar.trained import load_classifier
from cifar.training import checkpoint
from cifar.training.trainer import Evaluation

Settings = Callable[..., Config]


def evaluation(truth: list[int], predicted: list[int], classes: int) -> Evaluation:
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    for pair in zip(truth, predicted, strict=True):
        confusion[pair] += 1
    return Evaluation(0.0, confusion)


def test_the_scores_are_those_of_scikit_learn() -> None:
    """Class 3 is never predicted."""
    truth, predicted = [0] * 6 + [1] * 3 + [2] * 2 + [3], [0, 0, 0, 0, 1, 2, 1, 1, 0, 2, 2, 0]
    scores = evaluation(truth, predicted, 4).class_scores
    assert balanced_accuracy(scores) == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert macro_f1(scores) == pytest.approx(f1_score(truth, predicted, average="macro"))
    precision, recall, f1, images = precision_recall_fscore_support(truth, predicted, zero_division=0)
    assert [score.precision or 0 for score in scores] == pytest.approx(precision)
    assert [score.recall for score in scores] == pytest.approx(recall)
    assert [score.f1 for score in scores] == pytest.approx(f1)
    assert [score.images for score in scores] == images.tolist()
    assert scores[3].precision is None, "nothing was predicted as it"


def test_a_class_without_validation_images_is_left_out_whether_it_is_predicted_or_not() -> None:
    """So the mean is over the same classes in every epoch; a wrong prediction of it costs the true class its recall."""
    never = evaluation([0, 0, 1, 1], [0, 1, 1, 1], 3).class_scores
    once = evaluation([0, 0, 1, 1], [0, 2, 1, 1], 3).class_scores
    assert (never[2].precision, never[2].recall, never[2].f1) == (None, None, None)
    assert (once[2].images, once[2].precision, once[2].recall, once[2].f1) == (0, 0.0, None, None)
    assert balanced_accuracy(never) == balanced_accuracy(once) == 0.75
    assert macro_f1(never) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert macro_f1(once) == pytest.approx((2 / 3 + 1) / 2)


def epoch(number: int, **figures: float) -> EpochMetrics:
    values = dict.fromkeys((field.name for field in dataclasses.fields(EpochMetrics)), 0.5)
    return EpochMetrics(**{**values, **figures, "epoch": number})  # type: ignore[arg-type]


def test_best_and_patience_follow_the_objective_and_its_direction() -> None:
    history = [epoch(1, val_accuracy=0.7, val_loss=1.0), epoch(2, val_accuracy=0.6, val_loss=0.8), epoch(3)]
    history[2] = epoch(3, val_accuracy=0.65, val_loss=0.9)
    accuracy, loss = OBJECTIVES["accuracy"], OBJECTIVES["loss"]
    assert (best_of(history, accuracy), best_of(history, loss)) == (history[0], history[1])
    assert stopped_early(history, accuracy, 2) and not stopped_early(history, accuracy, 3)
    assert stopped_early(history, loss, 1) and not stopped_early(history, loss, 2)
    assert not stopped_early([], accuracy, 1) and not stopped_early(history, accuracy, None)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_keeps_returns_and_reports_the_epoch_that_its_objective_chooses(
    name: str, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Kept(Reporter):
        seen: list[float] = []  # noqa: RUF012

        def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
            assert isinstance(metrics, Mapping)
            self.seen.append(metrics[name])

    objective, reporter = OBJECTIVES[name], Kept()
    reporter.seen = []
    caplog.set_level("INFO")
    value = run(settings(f"objective={name}", "epochs=3", "optimizer.lr=0.1", "test=true"), str(tmp_path), reporter)
    history, result = read_metrics(tmp_path / "metrics.csv"), read_result(tmp_path)
    best = best_of(history, objective)
    assert best is not None and vars(best) == result["best"] and result["objective"] == name
    assert value == objective.value(best) == getattr(best, objective.column)
    assert reporter.seen == [objective.value(metrics) for metrics in history]
    kept = checkpoint.load(tmp_path / "best.pt")
    assert (kept["epoch"], kept["objective"], kept[objective.column]) == (best.epoch, name, value)
    assert f"best {objective.label} {value:.4f} in epoch {best.epoch}" in caplog.text
    assert set(OBJECTIVES) <= result["test"].keys()
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    recalls = [float(row["recall"]) for row in rows]
    assert [row["class"] for row in rows] == kept["classes"]
    assert sum(recalls) / len(recalls) == pytest.approx(best.val_balanced_accuracy)


def test_a_run_stops_early_and_a_resumed_one_does_not_begin_again(settings: Settings, tmp_path: Path) -> None:
    """With a rate that changes no weight, no epoch is better once the running statistics have settled."""
    still = ("optimizer.lr=1e-12", "epochs=60")
    run(settings(*still, "early_stopping.patience=2"), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    done = result["epochs_done"]
    assert result["status"] == "finished" and done == result["best"]["epoch"] + 2 < 60
    run(settings(*still, "early_stopping.patience=2", f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    assert len(read_metrics(tmp_path / "metrics.csv")) == done
    run(settings(*still, "early_stopping.patience=3", f"resume={tmp_path}"), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    assert result["epochs_done"] == result["best"]["epoch"] + 3 > done


def test_the_average_of_the_weights_is_what_best_pt_holds_and_the_test_set_is_evaluated_with(
    settings: Settings, tmp_path: Path
) -> None:
    run(settings("epochs=1", "ema.decay=0.9", "test=true"), str(tmp_path), NO_REPORTER)
    state, best = checkpoint.load(tmp_path / "checkpoint.pt"), checkpoint.load(tmp_path / "best.pt")
    averaged = state["average"]["model"]
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in best["model"].items())
    assert any(not torch.equal(tensor, averaged[name]) for name, tensor in state["model"].items())
    loaded = load_classifier(tmp_path / "best.pt").model.state_dict()
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in loaded.items())


def test_the_class_weights_that_were_used_are_recorded_by_name(settings: Settings, tmp_path: Path) -> None:
    run(settings("epochs=1", "loss.class_weights=balanced"), str(tmp_path), NO_REPORTER)
    weights = read_result(tmp_path)["class_weights"]
    assert list(weights) == checkpoint.load(tmp_path / "best.pt")["classes"]
    assert min(weights.values()) < 1 < max(weights.values())


def test_epochs_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have no figures of the classes, and keep none when such a run is resumed."""
    old = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds,images_per_second\n1,2,0.1,2,0.2,0.1,1,9\n"
    (tmp_path / "metrics.csv").write_text(old)
    history = read_metrics(tmp_path / "metrics.csv")
    assert (history[0].epoch, history[0].val_accuracy, history[0].val_macro_f1) == (1, 0.2, None)
    RunDirectory(tmp_path).start(history, resumed=True)
    assert read_metrics(tmp_path / "metrics.csv") == history

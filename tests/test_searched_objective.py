"""A search by another objective than the accuracy: its direction, its name, and what the report says of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from sweeps import trials

from analysis.evidence import expected_noise, reported_curves
from analysis.frames import read
from analysis.pages import study as page
from analysis.pages.run import report_of
from analysis.summary import Evidence, summarize, text
from cifar.results import read_metrics, read_result

RunPy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def place(run_py: RunPy, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a search for the lowest loss, with smoothing, weights and an average."""
    folder = tmp_path_factory.mktemp("by_loss")
    knobs = ("loss.label_smoothing=0.1", "loss.class_weights=balanced", "ema.decay=0.9", "hydra.sweep.dir=search")
    sweep = ("-m", "hydra/sweeper=optuna", "objective=loss", "hydra.sweeper.n_trials=5", "hydra.sweeper.sampler.seed=1")
    turns = ("hydra.sweeper.trials_per_worker=2", "hydra/sweeper/pruner=none", "hydra.sweeper.study_name=x")
    done = run_py(*sweep, *turns, *tiny, *knobs, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "done loss " in done.stdout and "which reported validation loss" in done.stdout
    return folder


def test_the_study_minimizes_the_plain_loss_of_its_runs(place: Path) -> None:
    best = yaml.safe_load((place / "search" / "best.yaml").read_text())
    values = {}
    for trial in trials(place, "search"):
        history = read_metrics(place / "search" / str(trial.number) / "metrics.csv")
        values[trial.number] = min(metrics.val_loss for metrics in history)
        assert trial.value == values[trial.number]
        assert list(trial.intermediate_values.values()) == [metrics.val_loss for metrics in history]
    assert best["trial"] == min(values, key=values.__getitem__) and best["value"] == min(values.values())
    assert read_result(place / "search" / str(best["trial"]))["best"]["val_loss"] == best["value"]


def test_answer_and_report_name_it_and_assume_no_binomial_noise(place: Path) -> None:
    frames = read(place / "search")
    evidence = Evidence(frames)
    answer = summarize(frames, evidence)
    assert (frames.metric, frames.minimizes, answer["objective"]) == ("loss", True, "validation loss")
    assert answer["best"]["value"] == min(frames.trials.value)
    assert expected_noise(frames, evidence.winner) is None
    curves = reported_curves(frames)
    assert len(curves) == len(frames.epochs) and (curves.score == -frames.epochs.val_loss).all()
    assert "validation loss" in text(answer)
    report = page.report_of(frames)
    assert report.facts[0].label.startswith("validation loss")
    titles = [figure.layout.yaxis.title.text or "" for figure in report.figures.values()]
    assert any("negated validation loss" in title for title in titles)
    classes = next(section for section in report.sections if section.title == "Class by class")
    assert len(classes.table) == 10 and "balanced accuracy" in classes.text


def test_the_report_of_a_run_names_it(place: Path) -> None:
    report = report_of(read(place / "search" / "0"))
    assert [fact.label for fact in report.facts[:2]] == ["validation loss", "validation accuracy"]
    assert report.facts[0].value == f"{read_result(place / 'search' / '0')['best']['val_loss']:.4f}"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["objective=loss", "hydra.sweeper.direction=maximize"], "objective=loss is to minimize; allowed: leave"),
        (["objective=macro_f1", "hydra.sweep.dir=search", "hydra.sweeper.study_name=x"], "was loss, now macro_f1"),
    ],
)
def test_another_direction_or_objective_is_refused(
    arguments: list[str], message: str, place: Path, run_py: RunPy, tiny: list[str]
) -> None:
    before = sorted(path.name for path in place.iterdir())
    answer = run_py("-m", "hydra/sweeper=optuna", *tiny, *arguments, cwd=place)
    assert answer.returncode == 1 and message in answer.stderr
    assert sorted(path.name for path in place.iterdir()) == before

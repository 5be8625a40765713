"""Figures show the numbers of the frames, are labelled and escaped, and are drawn without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image
from test_statistics import search

from analysis import figures, static
from analysis.frames import Frames, of_study, read
from analysis.statistics.recipes import pareto
from analysis.statistics.response import surface
from analysis.summary import Evidence

HOSTILE = '</script><img src=x onerror="window.hacked=1"><b>'


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence(search(0.5))


def failing() -> Frames:
    """A search of a number and a choice, in which trials failed and were pruned."""
    study = optuna.create_study(direction="maximize", study_name=HOSTILE)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("optimizer.lr", 1e-4, 1, log=True)
        trial.suggest_categorical("model", ["small", HOSTILE])
        if trial.number % 4 == 3:
            raise ArithmeticError
        trial.report(lr, 1)
        if trial.number % 4 == 2:
            raise optuna.TrialPruned
        return lr

    study.optimize(objective, n_trials=12, catch=(ArithmeticError,))
    return of_study(study)


def all_figures(evidence: Evidence, frames: Frames, places: Path) -> dict[str, go.Figure]:
    """Each kind of figure."""
    e, run = evidence, read(places / "run")
    estimates = surface(e.trials, e.space, e.surrogate, "lr", "nothing")
    points = e.complete.assign(cost=range(len(e.complete)), hover=figures.hover_texts(e.complete))
    points = points.assign(front=pareto(points.score, points.cost))
    confusion = pd.read_csv(places / "run" / "confusion.csv", index_col=0, dtype={0: str})
    return {
        **{y: figures.learning(figures.curves(read(places / "search")), y) for y in figures.MEASURES},
        "both": figures.both(figures.curves(run), "loss"),
        "slice": figures.slice_of(frames.trials, frames.spaces.iloc[0], "score"),
        "slice of choices": figures.slice_of(frames.trials, frames.spaces.iloc[1], "score"),
        "importance": figures.importance(e.importance),
        "contour": figures.contour(estimates, e.trials, e.space, "lr", "nothing", "score"),
        "parallel": figures.parallel(frames.trials, frames.spaces, "score"),
        "best of n": figures.best_of_n({"a": e.curve}, "score", 5),
        "reached": figures.reached({"a": e.complete.score, HOSTILE: [0.5, 0.6]}, "score"),
        "timeline": figures.timeline(frames.trials),
        "pareto": figures.pareto(points, "score", "seconds"),
        "confusion": figures.confusion(confusion),
    }


@pytest.fixture(scope="module")
def drawn(evidence: Evidence, searched: Path) -> dict[str, go.Figure]:
    return all_figures(evidence, failing(), searched)


def named(figure: go.Figure, name: str) -> go.Scatter:
    (trace,) = [trace for trace in figure.data if trace.name == name]
    return trace


def test_axes_have_titles_and_measures_units(drawn: dict[str, go.Figure]) -> None:
    for name, figure in drawn.items():
        assert figure.layout.xaxis.title.text or name == "parallel", name
        assert figure.layout.yaxis.title.text or name in ("importance", "timeline", "parallel"), name
    for name in ("train_loss", "val_accuracy", "both", "pareto", "timeline"):
        texts = drawn[name].layout.xaxis.title.text + drawn[name].layout.yaxis.title.text
        assert re.search(r"\((nats|share of 1|seconds|minutes)\)", texts), name


def test_what_comes_from_files_is_escaped(drawn: dict[str, go.Figure]) -> None:
    texts = {name: str(json.loads(figure.to_json())) for name, figure in drawn.items()}
    assert {name for name, text in texts.items() if "&lt;/script&gt;" in text} >= {
        "slice of choices",
        "reached",
        "timeline",
    }
    for name, text in texts.items():
        assert "<img" not in text and "<b>" not in text, name


def test_colour_blind_readers_can_distinguish_the_colours(drawn: dict[str, go.Figure]) -> None:
    known = {*figures.SERIES, *figures.OUTCOMES.values(), "#fff"}
    for name in set(drawn) - {"parallel"}:  # whose colours are a scale between two of them
        for trace in drawn[name].data:
            used = {trace.marker.color, trace.line.color} if trace.type == "scatter" else set()
            assert used - {None} <= known, (name, used)


def test_failed_trials_stand_below_all_others(drawn: dict[str, go.Figure]) -> None:
    for name in ("slice", "slice of choices"):
        figure = drawn[name]
        failed, others = named(figure, "failed"), [*named(figure, "complete").y, *named(figure, "pruned").y]
        assert len(failed.x) == 3 and max(failed.y) < min(others)


def test_the_best_runs_stand_out_and_pruned_ones_end_in_a_cross() -> None:
    rows = [
        {"run": r, "epoch": e, "val_loss": 1.0, "name": f"trial {r}", "hover": "", "rank": r, "outcome": "complete"}
        for r in range(1, 6)
        for e in (1, 2)
    ]
    rows += [rows[0] | {"run": 9, "name": "trial 9", "rank": np.nan, "outcome": "pruned"}]
    figure = figures.learning(pd.DataFrame(rows), "val_loss")
    assert [t.name for t in figure.data if t.line.width == 2.5] == ["trial 3", "trial 2", "trial 1"]
    assert len([x for x in named(figure, "others").x if x is not None]) == 4
    (crosses,) = [trace for trace in figure.data if trace.marker.symbol == "x-thin"]
    assert [*crosses.x] == [1]


def test_a_diverged_run_does_not_flatten_the_others() -> None:
    common = {"name": "r", "hover": "", "epoch": 1}
    rows = [common | {"run": r, "val_loss": 1.0 + r, "rank": r, "outcome": "complete"} for r in (1, 2)]
    rows += [common | {"run": 3, "val_loss": 1e6, "rank": np.nan, "outcome": "pruned"}]
    assert figures.learning(pd.DataFrame(rows), "val_loss").layout.yaxis.range[1] < 10


def test_hovering_shows_number_settings_and_folder(searched: Path) -> None:
    frames = read(searched / "search")
    text = figures.hover_texts(frames.trials)[0]
    trial = frames.trials.iloc[0]
    assert text.startswith("trial 0, complete: ") and trial.run in text
    assert f"optimizer.lr={trial['params.optimizer.lr']:.4g}" in text
    last = [
        text for text in named(figures.learning(figures.curves(frames), "gap"), "others").hovertext if "<br>" in text
    ]
    assert len(last) == 3, "the last point of each of the three that are not the best"


def test_numbers_are_those_of_the_statistics(evidence: Evidence, drawn: dict[str, go.Figure]) -> None:
    matters = named(drawn["importance"], "matters")
    row = evidence.importance.iloc[0]
    assert matters.x[0] == row.importance and matters.error_x.array[0] == row.high - row.importance
    assert [*drawn["best of n"].data[0].y] == evidence.curve.unbiased.tolist()
    assert len(drawn["parallel"].data) == 6 + 1, "a line for each complete trial, and the scale"


def test_conditional_and_whole_hyperparameters_are_drawn_side_by_side() -> None:
    study = optuna.create_study(direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("depth", 1, 4)
        return depth + (trial.suggest_float("x", 0, 1) if trial.suggest_categorical("opt", ["a", "b"]) == "a" else 0)

    study.optimize(objective, n_trials=10)
    frames = of_study(study)
    assert len(figures.parallel(frames.trials, frames.spaces, "score").data) == 10 + 1


def test_every_figure_is_drawn_without_a_browser(drawn: dict[str, go.Figure], tmp_path: Path) -> None:
    for name, figure in drawn.items():
        static.save(figure, tmp_path / name)
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        texts = " ".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text"))
        assert (figure.layout.xaxis.title.text or "score") in texts, name
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width == 1200 and len(image.convert("L").getcolors() or []) > 8, name


def test_a_drawing_holds_the_points_of_the_figure(drawn: dict[str, go.Figure]) -> None:
    figure = drawn["best of n"]
    (axes,) = static.draw(figure).axes
    assert axes.lines[0].get_ydata() == pytest.approx([*figure.data[0].y])
    bars = static.draw(drawn["importance"]).axes[0].patches
    assert {round(bar.get_width(), 9) for bar in bars} == {
        round(x, 9) for t in drawn["importance"].data if t.type == "bar" for x in t.x
    }


@pytest.mark.parametrize(
    "draw", [lambda frames: figures.curves(frames), lambda frames: figures.timeline(frames.trials)]
)
def test_a_study_without_trials_has_empty_figures(draw: Callable[[Frames], object]) -> None:
    drawn = draw(of_study(optuna.create_study()))
    assert len(drawn.data if isinstance(drawn, go.Figure) else drawn) == 0

"""Scores by hyperparameter: one at a time, two at a time, all at once, and their importance."""

from __future__ import annotations

import re
from contextlib import suppress
from html import escape
from typing import Any

import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from plotly.colors import sample_colorscale

from ..statistics.model import is_outlier
from ..statistics.scratch import scratch_study
from .theme import BLUE, GREY, ORANGE, OUTCOMES, SKY, TEMPLATE, color_bar, finish, hover_texts, new_figure, short_name

WORST_TO_BEST = [ORANGE, "#9FA8A3", SKY, BLUE]
"""A colour scale that is readable on dark and on light backgrounds."""


def slice_of(
    trials: pd.DataFrame, range_: pd.Series[Any], score: str, response: pd.DataFrame | None = None
) -> go.Figure:
    """The scores along one hyperparameter (`range_`: a row of the spaces), with statistics.response where there is one.

    Pruned trials are drawn at the last score that they reported, failed ones, which have none, below all others.
    """
    key = range_.hyperparameter
    column = f"params.{key}"
    trials = trials[trials[column].notna()]
    number = range_.kind == "number"
    scale = ("log" if range_.log else "linear") if number else "category"
    figure = new_figure(short_name(key), score, xaxis_type=scale)
    if response is not None and len(response):
        _add_response(figure, response)
    bottom = pd.Series(_below_all(trials), trials.index)
    for name, outcomes, heights, symbol in (
        ("complete", ["complete"], trials.score, "circle"),
        ("pruned", ["pruned"], trials.last_score, "triangle-down-open"),
        ("failed", ["failed", "diverged"], bottom, "x"),
    ):
        group = trials[trials.outcome.isin(outcomes)]
        values = group[column] if number else group[column].map(_escaped)
        figure.add_scatter(
            x=values,
            y=heights[group.index],
            name=name,
            mode="markers",
            marker={"color": OUTCOMES[name], "symbol": symbol, "size": 8},
            hovertext=hover_texts(group),
            hoverinfo="text",
        )
    figure.update_layout(yaxis_range=_readable_range(trials.score.dropna()))
    return finish(figure)


def _readable_range(scores: pd.Series[float]) -> tuple[float, float] | None:
    """The range of the scores without outliers, which would flatten all others; None where there are none."""
    usual = scores[~is_outlier(scores)]
    margin = 0.1 * (usual.max() - usual.min())
    return (usual.min() - margin, usual.max() + margin) if len(usual) < len(scores) else None


def _escaped(value: Any) -> str:
    return escape(str(value))


def _add_response(figure: go.Figure, response: pd.DataFrame) -> None:
    """The estimated score, and the band of its interval."""
    figure.add_scatter(
        x=[*response.value, *response.value[::-1]],
        y=[*response.high, *response.low[::-1]],
        name="95% interval",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor="rgba(86,180,233,0.25)",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=response.value,
        y=response.estimate,
        name="estimate",
        mode="lines",
        line={"color": SKY, "width": 2},
        hovertemplate="%{x:.4g}: %{y:.4f}",
    )


def _below_all(trials: pd.DataFrame) -> float:
    """A height below all scores."""
    known = trials.score.fillna(trials.last_score).dropna()
    if known.empty:
        return -0.08
    spread = known.max() - known.min()
    return float(known.min() - 0.08 * (spread or 0.1))


def importance(rows: pd.DataFrame) -> go.Figure:
    """statistics.importance: shares of the variance with their intervals, and Optuna's fANOVA beside them."""
    rows = rows.iloc[::-1]
    names = rows.hyperparameter.map(short_name)
    figure = new_figure("share of the score's variance", "", height=110 + 44 * len(rows), xaxis_tickformat=".0%")
    for name, matters, color in (("matters", True, BLUE), ("not distinguishable from noise", False, GREY)):
        group = rows[(rows.verdict == "matters") == matters]
        above = group.high - group.importance
        below = (group.importance - group.low).clip(lower=0)
        whisker = {"type": "data", "symmetric": False, "color": "#555", "thickness": 1.5}
        figure.add_bar(
            x=group.importance,
            y=names[group.index],
            orientation="h",
            width=0.55,
            name=name,
            marker={"color": color},
            error_x=whisker | {"array": above, "arrayminus": below},
            hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        )
    marker = {"symbol": "diamond-open", "color": ORANGE, "size": 9, "line": {"width": 2}}
    figure.add_scatter(x=rows.fanova, y=names, name="fANOVA of the trials alone", mode="markers", marker=marker)
    figure.update_layout(yaxis={"categoryorder": "array", "categoryarray": [*names], "showgrid": False})
    return finish(figure)


def contour(surface: pd.DataFrame, trials: pd.DataFrame, spaces: pd.DataFrame, x: str, y: str, score: str) -> go.Figure:
    """statistics.surface over two hyperparameters, with the trials as points."""
    log = spaces.set_index("hyperparameter").log
    x_scale = "log" if log[x] else "linear"
    y_scale = "log" if log[y] else "linear"
    figure = new_figure(short_name(x), short_name(y), height=420, xaxis_type=x_scale, yaxis_type=y_scale)
    figure.add_contour(
        x=surface.columns,
        y=surface.index,
        z=surface.to_numpy(),
        colorscale="Viridis",
        ncontours=14,
        line={"width": 0.4},
        colorbar=color_bar(score),
        hovertemplate="%{x:.3g}, %{y:.3g}: %{z:.4f}<extra>estimate</extra>",
    )
    for name, outcomes, symbol in (
        ("complete", ["complete"], "circle"),
        ("pruned", ["pruned"], "triangle-down"),
        ("failed", ["failed", "diverged"], "x"),
    ):
        group = trials[trials.outcome.isin(outcomes)]
        figure.add_scatter(
            x=group[f"params.{x}"],
            y=group[f"params.{y}"],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 8, "color": "#fff", "line": {"color": "#111", "width": 1}},
            hovertext=hover_texts(group),
            hoverinfo="text",
        )
    return finish(figure)


def parallel(trials: pd.DataFrame, spaces: pd.DataFrame, score: str) -> go.Figure:
    """Optuna's parallel coordinates of the complete trials, in colours that are readable on any background."""
    complete = trials[trials.score.notna()]
    hover = hover_texts(complete)
    study = _in_memory(complete, spaces.assign(name=_distinct_names(spaces.hyperparameter)))
    figure = optuna.visualization.plot_parallel_coordinate(study, target_name=score)
    figure.update_layout(template=TEMPLATE, title=None, height=380, plot_bgcolor="rgba(0,0,0,0)", margin_l=44)
    names = [re.sub("[ _]", "<br>", escape(text)) for text in figure.layout.xaxis.ticktext or ()]
    figure.update_xaxes(ticktext=names, tickangle=0 if len(names) <= 5 else None)
    for annotation in figure.layout.annotations:
        annotation.text = escape(annotation.text)
    *lines, scale = figure.data
    for line, trial in zip(lines, study.get_trials(deepcopy=False), strict=True):
        color = sample_colorscale(WORST_TO_BEST, line.y[0])[0]
        line.update(line={"color": color, "width": 1.5}, opacity=0.8)
        text = hover[trial.user_attrs["row"]]
        line.update(customdata=None, hovertemplate=None, hovertext=text, hoverinfo="text")
    scale.marker.update(colorscale=WORST_TO_BEST, colorbar=color_bar(score))
    return figure


def _distinct_names(keys: pd.Series[str]) -> pd.Series[str]:
    """The names without their config groups, unless two would be the same."""
    names = keys.str.rpartition(".")[2]
    return names if names.nunique() == keys.nunique() else keys


def _in_memory(trials: pd.DataFrame, spaces: pd.DataFrame) -> optuna.Study:
    """The trials as a study in memory, for Optuna's figures; trials outside the ranges are left out."""
    study = scratch_study()
    for index, trial in trials.iterrows():
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for row in spaces[spaces.branch == trial.branch].itertuples():
            name = str(row.name)
            distributions[name] = _distribution(row)
            params[name] = _stored_value(trial[f"params.{row.hyperparameter}"], distributions[name])
        with suppress(ValueError):
            study.add_trial(
                optuna.create_trial(
                    params=params, distributions=distributions, value=trial.score, user_attrs={"row": index}
                )
            )
    return study


def _distribution(row: Any) -> BaseDistribution:
    if row.kind == "choice":
        return CategoricalDistribution(row.choices)
    if row.whole:
        return IntDistribution(int(row.low), int(row.high), log=row.log)
    return FloatDistribution(row.low, row.high, log=row.log)


def _stored_value(value: Any, distribution: BaseDistribution) -> Any:
    """The value in the type that the study stored: a column with missing values has turned integers into floats."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if choice == value), value)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)

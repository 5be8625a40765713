"""Recipes and trials against one another: best of n trials, distribution of scores, accuracy against cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

import optuna
import pandas as pd
import plotly.graph_objects as go

from ..statistics.scratch import scratch_study
from .theme import COSTS, GREY, ORANGE, TEMPLATE, new_figure, series_color


def best_of_n(curves: Mapping[str, pd.DataFrame], score: str, enough: int | None = None) -> go.Figure:
    """statistics.best_of_n by recipe; a vertical line marks `enough` trials."""
    figure = new_figure("number of trials", f"expected best {score}")
    for index, (name, curve) in enumerate(curves.items()):
        figure.add_scatter(
            x=curve.n,
            y=curve.unbiased,
            name=escape(name),
            mode="lines" if len(curve) > 1 else "markers",
            line={"color": series_color(index), "width": 2.5},
            hovertemplate="best of %{x}: %{y:.4f}",
        )
    if enough is not None:
        figure.add_vline(x=enough, line={"color": GREY, "dash": "dash", "width": 1.5})
        position = {"x": enough, "y": 0.02, "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(text=f" {enough}: within the noise", showarrow=False, **position)
    figure.update_layout(showlegend=len(curves) > 1)
    return figure


def reached(scores: Mapping[str, Iterable[float]], score: str) -> go.Figure:
    """Optuna's empirical distribution functions: the share of each recipe's trials below a score."""
    studies = []
    for name, values in scores.items():
        study = scratch_study(name)
        study.add_trials([optuna.create_trial(value=float(value)) for value in values])
        studies.append(study)
    figure = optuna.visualization.plot_edf(studies, target_name=score)
    figure.update_layout(template=TEMPLATE, title=None, xaxis_title=score, yaxis_title="share of trials below")
    for index, trace in enumerate(figure.data):
        trace.update(name=escape(trace.name), line={"color": series_color(index), "width": 2.5}, mode="lines")
    return figure


def pareto(points: pd.DataFrame, score: str, cost: str) -> go.Figure:
    """Scores against a cost; `points` has score, cost, front (no other scores higher for no more), hover.

    A column `name`, where there is one, gives each recipe its colour.
    """
    figure = new_figure(COSTS[cost], score)
    front = points[points.front].sort_values("cost")
    line = {"color": ORANGE, "width": 2, "shape": "hv"}
    figure.add_scatter(x=front.cost, y=front.score, mode="lines", name="Pareto front", line=line, hoverinfo="skip")
    names = points["name"] if "name" in points else pd.Series("complete", points.index)
    for index, (name, group) in enumerate(points.groupby(names, sort=False)):
        figure.add_scatter(
            x=group.cost,
            y=group.score,
            mode="markers",
            name=escape(str(name)),
            marker={"color": series_color(index), "size": 8},
            hovertext=group.hover,
            hoverinfo="text",
        )
    return figure

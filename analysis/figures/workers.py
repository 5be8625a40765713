"""The workers of a search over time."""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go

from .theme import GREY, OUTCOMES, hover_texts, new_figure


def timeline(trials: pd.DataFrame) -> go.Figure:
    """A bar for each trial, a row for each worker; running trials last until now."""
    started = trials[trials.started.notna()]
    workers = started.worker.where(started.worker != "", "worker").map(escape)
    rows = {worker: f"worker {index}" for index, worker in enumerate(sorted(workers.unique()))}
    begins = (started.started - started.started.min()).dt.total_seconds() / 60
    minutes = _minutes(started)
    figure = new_figure("time since the start (minutes)", "", height=130 + 44 * len(rows), barmode="overlay")
    for outcome in started.outcome.unique():
        group = started[started.outcome == outcome]
        figure.add_bar(
            x=minutes[group.index],
            base=begins[group.index],
            y=workers[group.index].map(rows),
            name=escape(outcome),
            orientation="h",
            width=0.6,
            marker={"color": OUTCOMES.get(outcome, GREY), "line": {"color": "#fff", "width": 0.6}},
            hovertext=hover_texts(group),
            hoverinfo="text",
        )
    figure.update_layout(yaxis={"showgrid": False, "categoryorder": "category descending"})
    return figure


def _minutes(started: pd.DataFrame) -> pd.Series[float]:
    """How long each trial took, or has taken so far."""
    now = max(pd.Timestamp.now(), started.started.max()) if len(started) else None
    return (started.ended.fillna(now) - started.started).dt.total_seconds() / 60

"""Learning curves: loss, accuracy, generalization gap and learning rate by epoch."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..frames import Frames
from .theme import BLUE, GREY, ORANGE, TITLES, finish, hover_texts, new_figure, series_color


def curves(frames: Frames) -> pd.DataFrame:
    """The epochs, with outcome, name, hover, gap and rank (1: the best run) of their trial or run."""
    labels = _run_labels(frames.runs) if frames.trials.empty else _trial_labels(frames.trials)
    epochs = frames.epochs.merge(labels[labels.run != ""], on="run")
    return epochs.assign(gap=epochs.val_loss - epochs.train_loss)


def _run_labels(runs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": runs.run,
            "outcome": runs.status.replace("finished", "complete"),
            "name": [run.rstrip("/").rpartition("/")[2] for run in runs.run],
            "rank": runs.score.rank(ascending=False, method="first"),
            "hover": [escape(run) for run in runs.run],
        }
    )


def _trial_labels(trials: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run": trials.run,
            "outcome": trials.outcome,
            "name": "trial " + trials.number.astype(str),
            "rank": trials.score.rank(ascending=False, method="first"),
            "hover": hover_texts(trials),
        }
    )


def learning(epochs: pd.DataFrame, y: str, highlighted: int = 3) -> go.Figure:
    """One of TITLES by epoch; `epochs` as `curves` returns them.

    The best runs are highlighted; a cross marks where a run was pruned.
    """
    scale = "log" if y == "lr" else "linear"
    figure = _by_epoch(epochs, TITLES[y], yaxis_type=scale, legend_traceorder="reversed")
    others = epochs[~(epochs["rank"] <= highlighted)]
    pruned = others[others.outcome == "pruned"]
    _add_thin_lines(figure, others[others.outcome != "pruned"], y, "others", GREY)
    _add_thin_lines(figure, pruned, y, "pruned", ORANGE)
    _add_crosses(figure, pruned.groupby("run", sort=False).tail(1), y)
    best = epochs[epochs["rank"] <= highlighted]
    for rank, run in reversed([*best.groupby("rank")]):
        figure.add_scatter(
            **_joined_lines(run, y),
            name=escape(run.name.iloc[0]),
            mode="lines+markers" if len(run) == 1 else "lines",
            line={"color": series_color(int(rank) - 1), "width": 2.5},
        )
    figure.update_layout(yaxis_range=_readable_range(epochs, y))
    return finish(figure)


def _by_epoch(epochs: pd.DataFrame, y: str, **layout: Any) -> go.Figure:
    """An empty figure with labels at whole epochs only."""
    last = epochs.epoch.max() if len(epochs) else 1
    return new_figure("epoch", y, xaxis_dtick=max(1, round(last / 10)), **layout)


def _add_thin_lines(figure: go.Figure, epochs: pd.DataFrame, y: str, name: str, color: str) -> None:
    line = {"color": color, "width": 1}
    figure.add_scatter(**_joined_lines(epochs, y), name=name, mode="lines", line=line, opacity=0.55)


def _add_crosses(figure: go.Figure, ends: pd.DataFrame, y: str) -> None:
    """A cross at the last epoch of each pruned run."""
    figure.add_scatter(
        x=ends.epoch,
        y=ends[y],
        name="pruned here",
        mode="markers",
        marker={"color": ORANGE, "symbol": "x-thin", "line": {"width": 1.5, "color": ORANGE}},
        hovertext=ends.hover,
        hoverinfo="text",
        showlegend=False,
    )


def _readable_range(epochs: pd.DataFrame, y: str) -> tuple[float, float] | None:
    """The range of the complete runs, where another run (a diverged one) would flatten them; None where none would."""
    finite = epochs[np.isfinite(epochs[y])]
    complete = finite[y][finite.outcome == "complete"]
    span = np.ptp(complete) if len(complete) else 0.0
    if y == "lr" or not span or np.ptp(finite[y]) < 3 * span:
        return None
    return complete.min() - 0.1 * span, complete.max() + 0.5 * span


def _joined_lines(epochs: pd.DataFrame, y: str) -> dict[str, Any]:
    """All runs as one trace with gaps. The last point of a run shows all about it, the others name and value."""
    x: list[Any] = []
    values: list[Any] = []
    texts: list[str] = []
    for _, run in epochs.groupby("run", sort=False):
        name = escape(run.name.iloc[0])
        x += [*run.epoch, None]
        values += [*run[y].where(np.isfinite(run[y])), None]
        texts += [f"{name}, epoch {epoch}: {value:.4g}" for epoch, value in zip(run.epoch, run[y], strict=True)]
        texts[-1] += f"<br>{run.hover.iloc[0]}"
        texts.append("")
    return {"x": x, "y": values, "hovertext": texts, "hoverinfo": "text"}


def both(epochs: pd.DataFrame, quantity: str) -> go.Figure:
    """`quantity` ("loss" or "accuracy") of one run by epoch: training and validation; the best epoch is marked."""
    unit = "nats" if quantity == "loss" else "share of 1"
    figure = _by_epoch(epochs, f"{quantity} ({unit})")
    for part, name, color, dash in (("train", "training", ORANGE, "dot"), ("val", "validation", BLUE, "solid")):
        figure.add_scatter(
            x=epochs.epoch,
            y=epochs[f"{part}_{quantity}"],
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 2.5, "dash": dash},
            marker={"size": 5},
            hovertemplate="epoch %{x}: %{y:.4f}",
        )
    if epochs.score.notna().any():
        best = epochs.loc[epochs.score.idxmax()]
        marker = {"symbol": "circle-open", "size": 14, "color": BLUE, "line": {"width": 2}}
        figure.add_scatter(
            x=[best.epoch], y=[best[f"val_{quantity}"]], name="best epoch", mode="markers", marker=marker
        )
    return figure

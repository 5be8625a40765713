"""The confusion matrix."""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go

from .theme import color_bar, new_figure

MAX_COUNTED = 20
"""Classes above which a matrix has a colour bar instead of counts in its cells."""


def confusion(counts: pd.DataFrame) -> go.Figure:
    """Images by true class (rows) and predicted class: shares of the true class as colour, counts as text."""
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    names = [escape(str(name)) for name in counts.index]
    counted = len(counts) <= MAX_COUNTED
    x_title = "predicted class; colour: share of the true class" if counted else "predicted class"
    figure = new_figure(x_title, "true class", height=max(360, 150 + 30 * len(counts)))
    figure.add_heatmap(
        x=names,
        y=names,
        z=shares.to_numpy(),
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        text=counts.to_numpy(),
        texttemplate="%{text}" if counted else None,
        hovertemplate="%{y} predicted as %{x}: %{text} images, %{z:.1%}<extra></extra>",
        colorscale="Viridis",
        colorbar=color_bar("share of the true class") | {"tickformat": ".0%"},
        showscale=not counted,
    )
    axis = {"type": "category", "showgrid": False}
    figure.update_layout(xaxis=axis | {"side": "bottom"}, yaxis=axis | {"autorange": "reversed"})
    return figure

"""What all figures share: colours, template, axis titles, the text under the mouse.

Colours are those of Okabe and Ito (2008, Color universal design) and viridis: colour-blind readers can distinguish
both. Plotly renders a subset of HTML, so texts that come from files are escaped.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cifar.formatting import format_value

from ..frames import Frames

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
SKY = "#56B4E9"
PURPLE = "#CC79A7"
GREY = "#8C8C8C"
SERIES = (BLUE, GREEN, PURPLE, RED, SKY, ORANGE, GREY)
"""Colours of the best runs, best first, and of recipes."""
OUTCOMES = {"complete": BLUE, "pruned": ORANGE, "running": GREEN, "failed": RED, "diverged": RED}
"""Colours of a trial's outcome; GREY for all others."""
MEASURES = {
    "train_loss": "training loss (nats)",
    "val_loss": "validation loss (nats)",
    "train_accuracy": "training accuracy (share of 1)",
    "val_accuracy": "validation accuracy (share of 1)",
    "gap": "validation minus training loss (nats)",
    "lr": "learning rate",
}
"""Axis titles of what is drawn by epoch of every run."""
TITLES = MEASURES | {
    "val_balanced_accuracy": "validation balanced accuracy (share of 1)",
    "val_macro_f1": "validation macro F1 (share of 1)",
}
"""And of what is drawn where it is the objective."""
COSTS = {
    "seconds": "training time (seconds)",
    "parameters": "size of the model (parameters)",
    "flops": "forward pass of an image (FLOP)",
}
"""Axis titles of what a trial costs."""
LONGEST_NAME = 60
"""Characters of a hyperparameter's name in a figure."""
_AXIS = {
    "automargin": True,
    "gridcolor": "#ddd",
    "zeroline": False,
    "ticks": "",
    "ticklabelstandoff": 4,
    "title": {"standoff": 10, "font": {"size": 13}},
    "tickfont": {"size": 12},
    "exponentformat": "power",
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#333"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": SERIES,
        "margin": {"l": 12, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {
            "bgcolor": "#222",
            "bordercolor": "#222",
            "font": {"color": "#fff", "size": 12},
            "align": "left",
        },
        "hovermode": "closest",
        "height": 340,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def new_figure(x: str, y: str, **layout: Any) -> go.Figure:
    """An empty figure with axis titles."""
    return go.Figure(layout={"template": TEMPLATE, "xaxis_title_text": x, "yaxis_title_text": y} | layout)


def color_bar(title: str) -> dict[str, Any]:
    """The settings of a colour bar."""
    text = {"text": title, "side": "right", "font": {"size": 13}}
    return {"title": text, "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 12}}


def series_color(index: int) -> str:
    """The colour of a line, in turn."""
    return SERIES[index % len(SERIES)]


def finish(figure: go.Figure) -> go.Figure:
    """Remove empty traces; let a logarithmic axis span half a decade or more, with few labels."""
    figure.data = [trace for trace in figure.data if trace.x is not None and len(trace.x)]
    for name in ("x", "y"):
        axis = figure.layout[f"{name}axis"]
        if axis.type != "log":
            continue
        values = [value for trace in figure.data for value in trace[name] if value is not None and value > 0]
        if values:
            low, high = np.log10(min(values)), np.log10(max(values))
            margin = max(0.5 - (high - low) / 2, 0.04 * (high - low))
            axis.update(range=(low - margin, high + margin), dtick=1 if high - low > 1.5 else "D2")
    return figure


def measure(frames: Frames) -> str:
    """The axis title of a study's scores."""
    return f"negated {frames.value_name}" if frames.minimizes else frames.value_name


def short_name(key: str) -> str:
    """A hyperparameter's name without its config groups, escaped; of a very long one, its two ends."""
    name = key.rpartition(".")[2] or key
    return escape(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}...{name[-LONGEST_NAME // 3 :]}")


def hover_texts(trials: pd.DataFrame) -> pd.Series[str]:
    """For each trial, the text under the mouse: number, score, settings, reason and folder."""
    keys = [str(column) for column in trials.columns if str(column).startswith("params.")]
    texts = [_hover_text(trial, keys) for _, trial in trials.iterrows()]
    return pd.Series(texts, trials.index, dtype=object)


def _hover_text(trial: pd.Series[Any], keys: list[str]) -> str:
    score = trial.score if pd.notna(trial.score) else trial.last_score
    title = f"trial {trial.number}, {trial.outcome}"
    if pd.notna(score):
        title += f": {score:.4f}"
    settings = [f"{key.removeprefix('params.')}={format_value(trial[key])}" for key in keys if not pd.isna(trial[key])]
    lines = (title, *settings, trial.reason, trial.run)
    return "<br>".join(escape(line) for line in lines if line)

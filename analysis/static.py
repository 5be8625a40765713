"""A plotly figure drawn by matplotlib: for papers, and where there is no browser. Of plotly's, what figures.py uses."""

from __future__ import annotations

import io
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from cifar.files import write_atomically

DASHES = {"dot": ":", "dash": "--", "solid": "-"}
SYMBOLS = {"circle": "o", "x": "x", "x-thin": "x", "triangle-down": "v", "diamond": "D", "star": "*"}
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}
STYLE |= {"axes.grid": True, "grid.color": "#ddd", "grid.linewidth": 0.6, "axes.axisbelow": True, "svg.hashsalt": "0"}


def save(figure: go.Figure, path: Path) -> None:
    """Write path.svg and path.png, 6 inches wide."""
    with rc_context(STYLE):
        drawn = draw(figure)
        for suffix, more in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 200})):
            content = io.BytesIO()
            drawn.savefig(content, format=suffix, **more)
            put(path.with_name(f"{path.name}.{suffix}"), content.getvalue())


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    write_atomically(path, content)


def draw(figure: go.Figure) -> Figure:
    """The figure, its axes and its traces."""
    height = (figure.layout.height or figure.layout.template.layout.height or 340) / 110
    drawn = Figure(figsize=(6, height), layout="constrained")
    axes = drawn.subplots()
    for trace in figure.data:
        DRAWN[trace.type](axes, trace)
    _axis(axes, "x", figure.layout.xaxis)
    _axis(axes, "y", figure.layout.yaxis)
    for shape in figure.layout.shapes:
        if shape.yref in (None, "y domain", "paper", "y"):
            axes.axvline(shape.x0, color=shape.line.color, linewidth=1, linestyle=DASHES[shape.line.dash or "solid"])
    for note in figure.layout.annotations:
        place = axes.get_xaxis_transform() if note.yref and note.yref != "y" else axes.transData
        axes.text(note.x, note.y, _text(note.text), transform=place, ha=note.xanchor or "center", fontsize=7)
    if figure.layout.showlegend is not False and len(figure.data) > 1:
        _legend(axes, reverse=figure.layout.legend.traceorder == "reversed")
    return drawn


def _legend(axes: Axes, reverse: bool) -> None:
    """Above the axes, as plotly has it."""
    count = len(axes.get_legend_handles_labels()[1])
    if count:
        place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": min(count, 5)}
        axes.legend(**place, frameon=False, fontsize=8, reverse=reverse)


def _text(value: Any) -> str:
    return unescape(str(value or "")).replace("<br>", "\n").replace("$", r"\$")


def _axis(axes: Axes, name: str, axis: Any) -> None:
    own: Any = axes.xaxis if name == "x" else axes.yaxis
    own.set_label_text(_text(axis.title.text))
    if axis.type == "log":
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
    if axis.showgrid is False:
        own.grid(False)
    if axis.visible is False:
        own.set_visible(False)
    if axis.tickformat and axis.tickformat.endswith("%"):
        own.set_major_formatter(lambda value, _: f"{value:.0%}")
    if axis.tickvals is not None:
        own.set_ticks(list(axis.tickvals), [_text(text) for text in axis.ticktext])
    if axis.range is not None:
        limits = 10 ** np.array(axis.range, float) if axis.type == "log" else axis.range
        (axes.set_xlim if name == "x" else axes.set_ylim)(*limits)
    if axis.autorange == "reversed":
        own.set_inverted(True)
    if len(own.get_ticklabels()) > 6 and axis.type == "category" and name == "x":
        axes.tick_params(axis="x", rotation=45)


def _values(values: Any) -> Any:
    """Numbers with gaps, or texts."""
    found = list(values) if values is not None else []
    if any(isinstance(value, str) for value in found):
        return [_text(value) for value in found]
    return np.array([np.nan if value is None else value for value in found], float)


def _color(color: Any) -> Any:
    """What matplotlib makes of plotly's rgb(...) and rgba(...)."""
    if isinstance(color, str) and color.startswith("rgb"):
        red, green, blue, *alpha = (float(part) for part in color.partition("(")[2].rstrip(")").split(","))
        return (red / 255, green / 255, blue / 255, *alpha)
    return color or "#333"


def _colormap(scale: Any) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("scale", [(place, _color(color)) for place, color in scale])


def _bar_of_colors(axes: Axes, scale: Any, low: float, high: float, bar: Any) -> None:
    colors = ScalarMappable(Normalize(low, high), _colormap(scale))
    made = axes.figure.colorbar(colors, ax=axes, label=_text(bar.title.text), shrink=0.9)
    made.outline.set_visible(False)


def _scatter(axes: Axes, trace: Any) -> None:
    x, y, mode = _values(trace.x), _values(trace.y), trace.mode or "lines"
    look: Any = {"alpha": trace.opacity or 1, "label": _text(trace.name) if trace.showlegend is not False else None}
    if trace.fill == "toself":
        axes.fill(x, y, color=_color(trace.fillcolor), linewidth=0, label=look["label"])
        return
    if trace.marker.showscale:
        _bar_of_colors(axes, trace.marker.colorscale, trace.marker.cmin, trace.marker.cmax, trace.marker.colorbar)
        return
    if "lines" in mode:
        line = {"color": _color(trace.line.color), "linewidth": (trace.line.width or 2) * 0.7}
        steps = "steps-post" if trace.line.shape == "hv" else "default"
        axes.plot(x, y, linestyle=DASHES[trace.line.dash or "solid"], drawstyle=steps, **line, **look)
        look["label"] = None
    if "markers" in mode and len(x):
        marker = trace.marker
        symbol, open_ = (marker.symbol or "circle").removesuffix("-open"), (marker.symbol or "").endswith("-open")
        color, size = _color(marker.color or trace.line.color), (marker.size or 6) * 0.6
        edge = color if open_ else _color(marker.line.color or marker.color or trace.line.color)
        style = {"markerfacecolor": "none" if open_ else color, "markeredgecolor": edge, "markersize": size}
        axes.plot(x, y, linestyle="none", marker=SYMBOLS[symbol], **style, **look)


def _bar(axes: Axes, trace: Any) -> None:
    base = _values(trace.base) if trace.base is not None else 0
    error = None
    if trace.error_x.array is not None:
        error = np.array([_values(trace.error_x.arrayminus), _values(trace.error_x.array)])
    axes.barh(
        *(_values(trace.y), _values(trace.x)),
        left=base,
        height=trace.width or 0.8,
        color=_color(trace.marker.color),
        xerr=error,
        ecolor="#555",
        label=_text(trace.name),
    )


def _heatmap(axes: Axes, trace: Any) -> None:
    shares = np.asarray(trace.z, float)
    axes.imshow(shares, cmap=_colormap(trace.colorscale), vmin=trace.zmin, vmax=trace.zmax, aspect="auto")
    axes.set_xticks(range(len(trace.x)), _values(trace.x), rotation=45, ha="right")
    axes.set_yticks(range(len(trace.y)), _values(trace.y))
    if trace.texttemplate:
        for (row, column), count in np.ndenumerate(np.asarray(trace.text)):
            color = "black" if shares[row, column] > 0.5 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
    if trace.showscale:
        _bar_of_colors(axes, trace.colorscale, trace.zmin, trace.zmax, trace.colorbar)


def _contour(axes: Axes, trace: Any) -> None:
    z = np.asarray(trace.z, float)
    axes.contourf(_values(trace.x), _values(trace.y), z, levels=trace.ncontours, cmap=_colormap(trace.colorscale))
    _bar_of_colors(axes, trace.colorscale, float(z.min()), float(z.max()), trace.colorbar)


DRAWN = {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap, "contour": _contour}
"""How each kind of trace is drawn."""

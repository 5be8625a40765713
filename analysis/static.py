"""A plotly figure drawn by matplotlib: for papers, and for machines without a browser.

Supports the traces and settings of plotly that analysis.figures uses.
"""

from __future__ import annotations

import io
import warnings
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

PIXELS_PER_INCH = 110
"""Of plotly's heights."""
DASHES = {"dot": ":", "dash": "--", "solid": "-"}
SYMBOLS = {"circle": "o", "x": "x", "x-thin": "x", "triangle-down": "v", "diamond": "D", "star": "*"}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ddd",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "0",  # the same figure gives the same file
}


def save(figure: go.Figure, path: Path) -> None:
    """Write path.svg and path.png, 6 inches wide."""
    with rc_context(STYLE):
        drawing = draw(figure)
        _save_as(drawing, path, "svg", metadata={"Date": None})
        _save_as(drawing, path, "png", dpi=200)


def _save_as(drawing: Figure, path: Path, suffix: str, **options: Any) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels that leave little room
        drawing.savefig(content, format=suffix, **options)
    write_atomically(path.with_name(f"{path.name}.{suffix}"), content.getvalue())


def draw(figure: go.Figure) -> Figure:
    """The figure with its traces, axes, lines, notes and legend."""
    layout = figure.layout
    height = layout.height or layout.template.layout.height or 340
    drawing = Figure(figsize=(6, height / PIXELS_PER_INCH), layout="constrained")
    axes = drawing.subplots()
    for trace in figure.data:
        DRAW[trace.type](axes, trace)
    _set_axis(axes, "x", layout.xaxis)
    _set_axis(axes, "y", layout.yaxis)
    for shape in layout.shapes:
        if shape.yref in (None, "y domain", "paper", "y"):
            dashes = DASHES[shape.line.dash or "solid"]
            axes.axvline(shape.x0, color=shape.line.color, linewidth=1, linestyle=dashes)
    for note in layout.annotations:
        in_axes = note.yref and note.yref != "y"
        transform = axes.get_xaxis_transform() if in_axes else axes.transData
        axes.text(note.x, note.y, _text(note.text), transform=transform, ha=note.xanchor or "center", fontsize=7)
    if layout.showlegend is not False and len(figure.data) > 1:
        _add_legend(axes, reverse=layout.legend.traceorder == "reversed")
    return drawing


def _add_legend(axes: Axes, reverse: bool) -> None:
    """Above the axes, as in plotly."""
    count = len(axes.get_legend_handles_labels()[1])
    if count:
        position: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": min(count, 5)}
        axes.legend(**position, frameon=False, fontsize=8, reverse=reverse)


def _text(value: Any) -> str:
    """Plotly's HTML as plain text, with $ escaped for matplotlib."""
    return unescape(str(value or "")).replace("<br>", "\n").replace("$", r"\$")


def _set_axis(axes: Axes, name: str, settings: Any) -> None:
    """Title, scale, grid, labels, limits and direction of the x or y axis from plotly's settings."""
    axis: Any = axes.xaxis if name == "x" else axes.yaxis
    axis.set_label_text(_text(settings.title.text))
    if settings.type == "log":
        axes.set(**{f"{name}scale": "log"})
    if settings.showgrid is False:
        axis.grid(False)
    if settings.visible is False:
        axis.set_visible(False)
    if settings.tickformat and settings.tickformat.endswith("%"):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if settings.tickvals is not None:
        axis.set_ticks(list(settings.tickvals), [_text(text) for text in settings.ticktext])
    if settings.range is not None:
        limits = 10 ** np.array(settings.range, float) if settings.type == "log" else settings.range
        axes.set(**{f"{name}lim": tuple(limits)})
    if settings.autorange == "reversed":
        axis.set_inverted(True)
    if name == "x" and settings.type == "category" and len(axis.get_ticklabels()) > 6:
        axes.tick_params(axis="x", rotation=45)


def _values(values: Any) -> Any:
    """Texts as they are, numbers as an array with NaN where there are gaps."""
    listed = [] if values is None else list(values)
    if any(isinstance(value, str) for value in listed):
        return [_text(value) for value in listed]
    return np.array([np.nan if value is None else value for value in listed], float)


def _color(color: Any) -> Any:
    """Plotly's colour in matplotlib's form; rgb(...) and rgba(...) become tuples."""
    if isinstance(color, str) and color.startswith("rgb"):
        numbers = color.partition("(")[2].rstrip(")").split(",")
        red, green, blue, *alpha = (float(number) for number in numbers)
        return (red / 255, green / 255, blue / 255, *alpha)
    return color or "#333"


def _colormap(scale: Any) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("scale", [(position, _color(color)) for position, color in scale])


def _add_color_bar(axes: Axes, scale: Any, low: float, high: float, bar: Any) -> None:
    colors = ScalarMappable(Normalize(low, high), _colormap(scale))
    color_bar = axes.figure.colorbar(colors, ax=axes, label=_text(bar.title.text), shrink=0.9)
    color_bar.outline.set_visible(False)


def _draw_scatter(axes: Axes, trace: Any) -> None:
    x = _values(trace.x)
    y = _values(trace.y)
    mode = trace.mode or "lines"
    label = _text(trace.name) if trace.showlegend is not False else None
    if trace.fill == "toself":
        axes.fill(x, y, color=_color(trace.fillcolor), linewidth=0, label=label)
        return
    if trace.marker.showscale:
        scale = trace.marker
        _add_color_bar(axes, scale.colorscale, scale.cmin, scale.cmax, scale.colorbar)
        return
    alpha = trace.opacity or 1
    if "lines" in mode:
        axes.plot(x, y, **_line_style(trace), alpha=alpha, label=label)
        label = None  # one entry in the legend is enough
    if "markers" in mode and len(x):
        axes.plot(x, y, **_marker_style(trace), alpha=alpha, label=label)


def _line_style(trace: Any) -> dict[str, Any]:
    return {
        "color": _color(trace.line.color),
        "linewidth": (trace.line.width or 2) * 0.7,
        "linestyle": DASHES[trace.line.dash or "solid"],
        "drawstyle": "steps-post" if trace.line.shape == "hv" else "default",
    }


def _marker_style(trace: Any) -> dict[str, Any]:
    marker = trace.marker
    symbol = marker.symbol or "circle"
    color = _color(marker.color or trace.line.color)
    edge = _color(marker.line.color or marker.color or trace.line.color)
    is_open = symbol.endswith("-open")
    return {
        "linestyle": "none",
        "marker": SYMBOLS[symbol.removesuffix("-open")],
        "markersize": (marker.size or 6) * 0.6,
        "markerfacecolor": "none" if is_open else color,
        "markeredgecolor": color if is_open else edge,
    }


def _draw_bars(axes: Axes, trace: Any) -> None:
    """Horizontal bars, with intervals where there are any."""
    interval = None
    if trace.error_x.array is not None:
        interval = np.array([_values(trace.error_x.arrayminus), _values(trace.error_x.array)])
    axes.barh(
        _values(trace.y),
        _values(trace.x),
        left=0 if trace.base is None else _values(trace.base),
        height=trace.width or 0.8,
        color=_color(trace.marker.color),
        xerr=interval,
        ecolor="#555",
        label=_text(trace.name),
    )


def _draw_heatmap(axes: Axes, trace: Any) -> None:
    shares = np.asarray(trace.z, float)
    axes.imshow(shares, cmap=_colormap(trace.colorscale), vmin=trace.zmin, vmax=trace.zmax, aspect="auto")
    axes.set_xticks(range(len(trace.x)), _values(trace.x), rotation=45, ha="right")
    axes.set_yticks(range(len(trace.y)), _values(trace.y))
    if trace.texttemplate:
        for (row, column), count in np.ndenumerate(np.asarray(trace.text)):
            color = "black" if shares[row, column] > 0.5 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
    if trace.showscale:
        _add_color_bar(axes, trace.colorscale, trace.zmin, trace.zmax, trace.colorbar)


def _draw_contour(axes: Axes, trace: Any) -> None:
    z = np.asarray(trace.z, float)
    axes.contourf(_values(trace.x), _values(trace.y), z, levels=trace.ncontours, cmap=_colormap(trace.colorscale))
    _add_color_bar(axes, trace.colorscale, float(z.min()), float(z.max()), trace.colorbar)


DRAW = {"scatter": _draw_scatter, "bar": _draw_bars, "heatmap": _draw_heatmap, "contour": _draw_contour}
"""The function that draws each type of trace."""

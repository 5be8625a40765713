"""A Report as one HTML page and as Markdown, with the same texts and numbers."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cifar.formatting import cell, spelled
from cifar.html import STYLE

from . import figures
from .pages import Report

LONG = 40
"""Characters from which a table cell is given a minimum width."""
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def page(report: Report, time: str, command: str, reload: int = 0) -> str:
    """One HTML file that needs no network; it reloads every `reload` seconds, if that is above 0.

    `time` and `command` say when and how it was written.
    """
    drawn = report.figures
    return TEMPLATES.get_template("page.html.jinja").render(
        report=report,
        time=time,
        command=command,
        reload=reload,
        table=_html_table,
        height=_height,
        figures=_figures_script(drawn),
        style=Markup(STYLE),
        plotly=Markup(get_plotlyjs() if drawn else ""),  # a script that holds nothing from the files of a study
    )


def _figures_script(drawn: dict[str, go.Figure]) -> Markup:
    """The figures as JSON, escaped so that no text can end the script element; empty without figures."""
    if not drawn:
        return Markup("")
    text = "{" + ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in drawn.items()) + "}"
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _height(figure: go.Figure) -> int:
    return int(figure.layout.height or figures.TEMPLATE.layout.height)


def _html_table(frame: pd.DataFrame) -> Markup:
    head = "".join(f"<th>{breakable(name)}</th>" for name in frame.columns)
    body = "".join(f"<tr>{_html_cells(row)}</tr>" for row in frame.to_numpy())
    return Markup(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _html_cells(row: Any) -> str:
    return "".join(f"<td{_css_class(str(value))}>{breakable(value)}</td>" for value in row)


def _css_class(text: str) -> str:
    """Numbers and intervals stay on one line; columns of long texts do not become narrow."""
    if re.fullmatch(r"[-+\d.e%]+( to [-+\d.e%]+)?", text):
        return ' class="number"'
    return ' class="long"' if len(text) > LONG else ""


def breakable(value: Any) -> Markup:
    """Escaped; a long name may break after a dot, an underscore or a slash, and before a capital."""
    text = re.sub(r"(?<=[._/])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])", "\0", str(value))
    return Markup(escape(text).replace("\0", "<wbr>"))


def markdown(report: Report, time: str, command: str) -> str:
    """The same texts and numbers as `page`."""
    template = TEMPLATES.get_template("page.md.jinja")
    return template.render(report=report, time=time, command=command, table=_markdown_table)


def _markdown_table(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


TEMPLATES.filters |= {"cell": cell, "breakable": breakable, "spelled": spelled}

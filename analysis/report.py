"""A page that answers which hyperparameters are best, how sure that is, and what to do next.

python -m analysis.report sweeps/NAME              # report.html, report.md, best.yaml, figures/ in sweeps/NAME/report/
python -m analysis.report outputs/DATE/TIME        # one run, or a grid (multirun/DATE/TIME)
python -m analysis.report sweeps/A sweeps/B        # against one another; into report/ here
python -m analysis.report sweeps/NAME --watch      # again and again while the search runs
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cifar.files import FileError, cannot_write

from . import figures, static
from .frames import Frames, FramesError, read
from .pages import Report, report_of

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
EVERY = 10
"""Seconds between two looks at a search that runs; more where a look takes long."""
SHARE = 0.1
"""Of the time, at most, in which a watch takes a core from the search."""


def write(report: Report, folder: Path, by: str, reload: int = 0) -> None:
    """report.html, report.md, best.yaml, figures/ in a folder; the page loads again after `reload` seconds, if > 0."""
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    drawn = {name: figure for section in report.sections for name, figure in section.figures.items()}
    for name, figure in drawn.items():
        static.save(figure, folder / "figures" / name)
    if report.best_yaml:
        shutil.copyfile(report.best_yaml, folder / "best.yaml")
    made = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    static.put(folder / "report.md", markdown(report, made, by).encode())
    static.put(folder / "report.html", page(report, made, by, reload).encode())


def page(report: Report, made: str, by: str, reload: int = 0) -> str:
    """All of it in one HTML file, which needs no network."""
    drawn = {name: figure for section in report.sections for name, figure in section.figures.items()}
    known = {"report": report, "made": made, "by": by, "reload": reload, "table": _table, "height": _height}
    plotly = Markup(get_plotlyjs() if drawn else "")  # a script, which no file that was read has a part in
    return TEMPLATES.get_template("page.html.jinja").render(known, figures=_script(drawn), plotly=plotly)


def _script(drawn: dict[str, go.Figure]) -> Markup:
    """The figures as JSON that cannot end the script it stands in; nothing where there are none."""
    text = "{" + ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in drawn.items()) + "}"
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e") if drawn else "")


def _height(figure: go.Figure) -> int:
    return int(figure.layout.height or figures.LOOK.layout.height)


def _table(frame: pd.DataFrame) -> Markup:
    head = "".join(f"<th>{_breakable(name)}</th>" for name in frame.columns)
    rows = ("".join(f"<td{_kind(value)}>{_breakable(value)}</td>" for value in row) for row in frame.to_numpy())
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return Markup(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _kind(value: Any) -> str:
    """Numbers and intervals stay on one line, long texts do not become slender columns."""
    number = re.fullmatch(r"[-+\d.e%]+( to [-+\d.e%]+)?", str(value))
    return ' class="number"' if number else ' class="long"' if len(str(value)) > 40 else ""


def _breakable(value: Any) -> Markup:
    """Escaped; a long name may go on in the next line after a dot, an underscore or a slash, or before a capital."""
    text = re.sub(r"(?<=[._/])(?=[A-Za-z])|(?<=[a-z])(?=[A-Z])", "\0", str(value))
    return Markup(escape(text).replace("\0", "<wbr>"))


def markdown(report: Report, made: str, by: str) -> str:
    """The same texts and numbers as the page's."""
    return TEMPLATES.get_template("page.md.jinja").render(report=report, made=made, by=by, table=_markdown_table)


def _markdown_table(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(value: Any) -> str:
    """A text in a line of Markdown, whatever it holds."""
    return " ".join(escape(str(value), quote=False).replace("|", "\\|").split())


TEMPLATES.filters |= {"cell": _cell, "breakable": _breakable}


def destination(places: Sequence[str], out: str | None) -> Path:
    """Where a report goes: --out, else beside what it tells of, else report/ here."""
    if out:
        return Path(out)
    place = Path(places[0])
    if len(places) > 1 or "://" in places[0]:
        return Path("report")
    return (place if place.is_dir() else place.parent) / "report"


def watch(places: Sequence[str], study: str | None, folder: Path, by: str) -> Report:
    """Write the report again while something runs; until nothing does at two looks in turn, or Ctrl-C."""
    quiet, pause = 0, EVERY
    try:
        while quiet < 2:
            begun = time.monotonic()
            report = report_of(read_all(places, study))
            quiet = 0 if report.running else quiet + 1
            write(report, folder, by, reload=pause if quiet < 2 else 0)
            print(f"{datetime.now():%H:%M:%S} {report.counted}", flush=True)
            pause = max(EVERY, round((time.monotonic() - begun) / SHARE))
            time.sleep(pause if quiet < 2 else 0)
    except KeyboardInterrupt:
        write(report := report_of(read_all(places, study)), folder, by)
    return report


def read_all(places: Sequence[str], study: str | None) -> list[Frames]:
    return [read(place, study) for place in places]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="+", metavar="PLACE", help="a folder of a search, a run or a grid, or a URL")
    parser.add_argument("--out", help="the folder to write to; default: PLACE/report, of several places report")
    parser.add_argument("--study", help="its name, where a storage holds several")
    parser.add_argument("--watch", action="store_true", help="write it again while the search runs")
    options = parser.parse_args(argv)
    folder = destination(options.places, options.out)
    by = shlex.join(["python", "-m", "analysis.report", *argv])
    try:
        if options.watch:
            report = watch(options.places, options.study, folder, by)
        else:
            write(report := report_of(read_all(options.places, options.study)), folder, by)
    except (FramesError, FileError) as error:
        sys.exit(f"error: {error}")
    print(f"{report.problem or report.title}\n{folder / 'report.html'}")


if __name__ == "__main__":
    main(sys.argv[1:])

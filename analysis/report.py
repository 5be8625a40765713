"""A page that answers which hyperparameters are best, how sure that is, and what to do next.

python -m analysis.report sweeps/NAME              # report.html, report.md, best.yaml, figures/ in sweeps/NAME/report/
python -m analysis.report outputs/DATE/TIME        # one run, or a grid (multirun/DATE/TIME)
python -m analysis.report sweeps/A sweeps/B        # a comparison; into report/ in the working directory
python -m analysis.report sweeps/NAME --watch      # update it while the search runs
"""

from __future__ import annotations

from cifar import endings

from . import packages

if __name__ == "__main__":
    endings.prepare()
    packages.require("analysis.report")

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from cifar.commands import as_started, module_command
from cifar.errors import UserError
from cifar.files import BEST_TRIAL, cannot_write, write_atomically
from cifar.options.outside import check_outside

from . import static
from .frames import read
from .pages import Report, report_of
from .render import markdown, page

POLL_SECONDS = 10
"""Between two updates of --watch; more where an update takes long."""
MAX_SHARE = 0.1
"""The largest share of the time for which --watch occupies a core that the search could use."""
IDLE_POLLS = 2
"""--watch ends when so many polls in a row see nothing running: one alone may fall between two trials."""


def write(report: Report, folder: Path, command: str, reload: int = 0) -> None:
    """Write report.html, report.md, best.yaml and figures/ to `folder`.

    The page reloads every `reload` seconds, if that is above 0. Raises FileError where the folder cannot be written.
    """
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    for name, figure in report.figures.items():
        static.save(figure, folder / "figures" / name)
    if report.best_yaml:
        shutil.copyfile(report.best_yaml, folder / BEST_TRIAL)
    now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    write_atomically(folder / "report.md", markdown(report, now, command).encode())
    write_atomically(folder / "report.html", page(report, now, command, reload).encode())


def destination(places: Sequence[str], out: str | None) -> Path:
    """The folder of the report: --out, else PLACE/report, else report/ in the working directory.

    Raises UserError for --out with the folder of a study or of a run, whose best.yaml would be replaced.
    """
    if out:
        if any((Path(out) / name).exists() for name in ("study.db", "confirmation", ".hydra")):
            raise UserError(f"--out {out}: holds a study or a run; allowed: another folder, as {Path(out) / 'report'}")
        return Path(out)
    place = Path(places[0])
    if len(places) > 1 or "://" in places[0]:
        return Path("report")
    return (place if place.is_dir() else place.parent) / "report"


def watch(places: Sequence[str], study: str | None, folder: Path, command: str) -> Report:
    """Update the report until nothing runs any more, or until Ctrl-C; the last one does not reload."""
    idle_polls = 0
    pause = POLL_SECONDS
    try:
        while idle_polls < IDLE_POLLS:
            start = time.monotonic()
            report = read_report(places, study, folder)
            idle_polls = 0 if report.running else idle_polls + 1
            last = idle_polls == IDLE_POLLS
            write(report, folder, command, reload=0 if last else pause)
            print(f"{datetime.now():%H:%M:%S} {report.counts}", flush=True)
            pause = max(POLL_SECONDS, round((time.monotonic() - start) / MAX_SHARE))
            time.sleep(0 if last else pause)
    except KeyboardInterrupt:
        report = read_report(places, study, folder)
        write(report, folder, command)
    return report


def read_report(places: Sequence[str], study: str | None, folder: Path) -> Report:
    """Raises FramesError for places that cannot be read, ConfigError where `folder` is in a folder of their images."""
    frames = [read(place, study) for place in places]
    for each in frames:
        _check_outside(each.runs, folder)
    return report_of(frames)


def _check_outside(runs: pd.DataFrame, folder: Path) -> None:
    if {"config.data.source", "config.data.root"} <= set(runs):
        for root in runs.loc[runs["config.data.source"] == "image_folder", "config.data.root"].dropna().unique():
            check_outside(str(root), {"--out": folder})


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=module_command("analysis.report"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("places", nargs="+", metavar="PLACE", help="a folder of a search, a run or a grid, or a URL")
    parser.add_argument("--out", help="the folder to write to; default: PLACE/report, or report for several places")
    parser.add_argument("--study", help="the name of the study, where a storage holds several")
    parser.add_argument("--watch", action="store_true", help="update the report while the search runs")
    options = parser.parse_args(argv)
    command = module_command("analysis.report", *argv)
    try:
        folder = destination(options.places, options.out)
        if options.watch:
            report = watch(options.places, options.study, folder, command)
        else:
            report = read_report(options.places, options.study, folder)
            write(report, folder, command)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"{report.problem or report.title}\n{folder / 'report.html'}")


if __name__ == "__main__":
    endings.run(main)

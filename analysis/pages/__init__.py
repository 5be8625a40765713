"""What a report says and shows: of a study, of runs, of several places. Every number is from statistics or summary.

A Report holds texts, tables and figures; analysis.render writes it as a page and as Markdown.

base.py     Report and Fact, and the facts that all kinds share
study.py    of one search
runs.py     of a grid or a folder of runs: settings.py its settings, folds.py the means over folds
run.py      of one run
several.py  of several of these, compared
"""

from __future__ import annotations

from collections.abc import Sequence

from ..answer import why_no_search
from ..frames import Frames, FramesError
from . import run, runs, several, study
from .base import Fact, Report

__all__ = ["Fact", "Report", "report_of"]


def report_of(places: Sequence[Frames]) -> Report:
    """Raises FramesError for what has no report: studies with several objectives, or places that cannot be compared."""
    for frames in places:
        if len(frames.objectives) > 1:
            raise FramesError(why_no_search(frames))
    if len(places) > 1:
        return several.report_of(places)
    frames = places[0]
    if frames.study:
        return study.report_of(frames)
    return run.report_of(frames) if len(frames.runs) == 1 else runs.report_of(frames)

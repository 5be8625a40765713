"""The sections of a report, one file each: its numbers, its sentence, its figures or its table.

Every file in this folder is a section; none is listed elsewhere. It has ORDER, its position on the page, and a function
`section`, which returns None where it does not apply. For example sections/trial_duration.py:

    from . import Context, Section

    ORDER = 95

    def section(context: Context) -> Section | None:
        if context.kind != "study":
            return None
        seconds = context.frames.trials.seconds.median()
        return Section("Duration of a trial", f"Half of the trials took less than {seconds:.0f} seconds.")
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from .. import figures
from ..evidence import Evidence
from ..frames import Frames

Kind = Literal["study", "runs", "run", "several"]
"""What a report is of: one search; a grid or a folder of runs; one run; several of these, compared."""
MAX_ROWS = 10
"""Rows of a table."""
MAX_NAME = 80
"""Characters of a file's name that are of a hyperparameter: a file system allows 255 bytes."""


@dataclass(frozen=True)
class Place:
    """A search, a grid, a folder of runs or a run, and its name in a comparison."""

    name: str
    frames: Frames


@dataclass(frozen=True)
class Context:
    """What is known when the sections are made.

    `places` holds one place; of several, only those with scores, best first. `best_run` is the run directory of the
    best trial or run, empty where there is none. `evidence` and `answer` (analysis.answer) are those of a study;
    `evidence` is None before a trial is complete.
    """

    kind: Kind
    places: Sequence[Place]
    best_run: str = ""
    evidence: Evidence | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> Frames:
        """Of the first place."""
        return self.places[0].frames

    @property
    def score(self) -> str:
        """The axis title of the scores."""
        return figures.measure(self.frames)

    @property
    def modelled(self) -> Evidence | None:
        """The evidence, where enough trials are complete for a surrogate; else None."""
        return self.evidence if "importance" in self.answer else None


@dataclass(frozen=True)
class Picture:
    """An image as a data URL; its caption, the name of its file, and what else is known of it."""

    source: str
    caption: str
    file: str
    note: str = ""


@dataclass(frozen=True)
class Pictures:
    """Images side by side under a title; `wide`: each on a line by itself."""

    title: str
    pictures: list[Picture]
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A title, a sentence or a few, figures by file name, a table of texts, and images."""

    title: str
    text: str
    figures: dict[str, go.Figure] = field(default_factory=dict)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    pictures: list[Pictures] = field(default_factory=list)


def file_name(text: str) -> str:
    """A hyperparameter or a measure as part of the name of a figure's file."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", text)[:MAX_NAME]


def sections_of(context: Context) -> list[Section]:
    """The sections that apply, in their order."""
    sections = [module.section(context) for module in _modules()]
    return [section for section in sections if section is not None]


def _modules() -> list[ModuleType]:
    """The files of this folder, in the order of their sections."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    for module in modules:
        if not hasattr(module, "ORDER") or not hasattr(module, "section"):
            raise TypeError(f"{module.__file__}: a section needs ORDER, a number, and a function section(context)")
    return sorted(modules, key=lambda module: (module.ORDER, module.__name__))

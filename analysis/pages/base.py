"""A report, and the facts that all kinds of report share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from cifar import config_dir
from cifar.commands import command
from cifar.formatting import count_of, format_count, format_interval, format_time, format_value
from cifar.intervals import wilson
from cifar.objective import ACCURACY, OBJECTIVES

from ..architecture import architecture, model_name, model_settings
from ..frames import Frames
from ..sections import Section

COMMAND = re.compile(r": '?(\S*/)?(python[\d.]*|cifar-\w+|pip|optuna)\b[^;]*$")
"""A command at the end of a text."""


@dataclass(frozen=True)
class Fact:
    """One of the numbers at the top: what it is, its value, and how sure it is."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What a page shows, from top to bottom; `problem` says why there is no answer.

    `counts` says how many trials or runs are in which state. `best_yaml` is the file that trains the best, None where
    there is none.
    """

    title: str
    kind: str
    counts: str
    running: bool
    problem: str = ""
    facts: list[Fact] = field(default_factory=list)
    table_title: str = "Best settings"
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    wide_table: bool = False
    command: str = ""
    next_steps: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    best_yaml: Path | None = None

    @property
    def figures(self) -> dict[str, go.Figure]:
        """Of all sections, by file name."""
        return {name: figure for section in self.sections for name, figure in section.figures.items()}


def is_running(frames: Frames) -> bool:
    """Whether trials or runs are under way or still to come."""
    if not frames.study:
        return bool((frames.runs.status == "running").any())
    return frames.trials.empty or bool(frames.trials.state.isin(["RUNNING", "WAITING"]).any())


def command_of(run: str, instead: Sequence[str] = ()) -> str:
    """The command line of a run, from the overrides that Hydra recorded; empty where they cannot be read.

    The overrides `instead` take the place of those of the same keys.
    """
    replaced = {"resume", *map(_key, instead)}
    try:
        overrides = yaml.safe_load((Path(run) / ".hydra" / "overrides.yaml").read_text("utf-8"))
        kept = [line for line in overrides if _key(line) not in replaced]
        return command(*config_dir.option(Path(run)), *kept, *instead)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return ""


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def sentence(text: str) -> str:
    """With a full stop, unless it ends in a command, and a capital, unless it begins with a name as optimizer.lr."""
    first_word = text.split(" ")[0]
    capitalised = text[0].upper() + text[1:] if first_word.isalpha() else text
    return capitalised if text.endswith(".") or COMMAND.search(text) else f"{capitalised}."


def architecture_facts(runs: pd.DataFrame) -> list[Fact]:
    """The model of the first of the runs: name, settings, size and cost; nothing where that is not known."""
    model = architecture(runs)
    if "parameters" not in model:
        return []
    settings = " ".join(f"{key}={format_value(value)}" for key, value in model_settings(model).items())
    notes = [settings] if settings else []
    notes.append(f"{format_count(model['parameters'])} parameters")
    if "flops" in model:
        notes.append(f"{format_count(model['flops'])}FLOP an image")
    return [Fact("architecture", model_name(model) or "model", " · ".join(notes))]


def score_facts(run: pd.Series[Any]) -> list[Fact]:
    """A run's objective, and its validation accuracy."""
    objective = OBJECTIVES.get(run.objective, ACCURACY)
    accuracy = [accuracy_fact(run)] if pd.notna(run.val_accuracy) else []
    if objective is ACCURACY or pd.isna(run.score):
        return accuracy
    return [Fact(objective.label, f"{objective.signed(run.score):.4f}", f"epoch {run.best_epoch}"), *accuracy]


def accuracy_fact(run: pd.Series[Any]) -> Fact:
    """A run's validation accuracy, with Wilson's interval."""
    note = f"epoch {run.best_epoch}"
    if pd.notna(run.val_images):
        interval = format_interval(*wilson(run.val_accuracy, int(run.val_images)))
        note = f"{interval} · {count_of(run.val_images, 'image')} · {note}"
    return Fact("validation accuracy", f"{run.val_accuracy:.4f}", note)


def total_seconds(frames: Frames) -> float:
    """Of all runs; of a study of another program, of its trials."""
    return float(frames.runs.train_seconds.sum() or frames.trials.seconds.sum())


def time_fact(seconds: float, note: str = "") -> Fact:
    return Fact("training time", format_time(seconds), note)

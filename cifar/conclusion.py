"""What a run that was started by hand says at its end: its accuracy, where its time went, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cifar import config_dir, overrides
from cifar.commands import command, module_command
from cifar.data.images import Images
from cifar.durations import COUNTED
from cifar.formatting import format_interval, format_time
from cifar.intervals import wilson
from cifar.layout import CONF
from cifar.options.config import Config
from cifar.overrides import canonical, key_of
from cifar.reporting import EpochMetrics

NOT_OF_A_SEARCH = ("test", "resume", "from_study")
"""Keys of a run that a search of the same settings does not have."""
IMAGES = "IMAGES"
"""Stands for the user's images where none of the run is a file."""
SHOWN = 0.05
"""Seconds: what took less is not named."""


def next_steps(config: Config, directory: Path, val: Images, settings: Mapping[str, str]) -> Iterator[str]:
    """The commands that use the run and that search from it. `settings`: the files of .hydra/, none if there are none.

    To be shown and not recorded: a command says which modules are trusted.
    """
    example = example_of(config, val)
    where = f" ({IMAGES}: files or folders)" if example == IMAGES else ""
    yield f"to use it: {module_command('cifar.predict', str(directory), example, with_trust=True)}{where}"
    search = search_command(config, directory, settings)
    if search:
        yield f"to search for better settings: {search}"


def accuracy(facts: Mapping[str, Any], best: EpochMetrics, images: int) -> str:
    """On the test images where these were evaluated, else on those that chose the epoch. `facts`: as in result.json."""
    test = facts.get("test")
    value, count = (test["accuracy"], test["images"]) if test else (best.val_accuracy, images)
    of = "test images" if test else "validation images, which chose the epoch"
    return f"accuracy {value:.4f} (95% interval {format_interval(*wilson(value, count))}), of the {count} {of}"


def time(facts: Mapping[str, Any]) -> str:
    """What the setting `time` covers, and what else took long."""
    seconds: Mapping[str, float] = facts["seconds"]
    total = facts["plan"]["seconds"] if "plan" in facts else sum(seconds.get(name, 0.0) for name in COUNTED)
    covered = _parts(": ", {name: seconds[name] for name in COUNTED if name in seconds})
    besides = _parts("; besides: ", {name: value for name, value in seconds.items() if name not in COUNTED})
    return f"time: {format_time(total)}{covered}{besides}"


def _parts(before: str, seconds: Mapping[str, float]) -> str:
    shown = ", ".join(f"{name} {format_time(value)}" for name, value in seconds.items() if _shown(name, value))
    return before + shown if shown else ""


def _shown(name: str, seconds: float) -> bool:
    return name == "training" or seconds >= SHOWN


def example_of(config: Config, val: Images) -> str:
    """An image to predict: the first one to validate on, where it is a file."""
    root = Path(config.data.root or "").expanduser()
    folder = root if root.is_dir() else root.parent  # names in a table are relative to its folder
    files = (folder / str(name) for name in val.names[:1])
    return next((str(file) for file in files if config.data.root and file.is_file()), IMAGES)


def search_command(config: Config, directory: Path, settings: Mapping[str, str]) -> str | None:
    """The command that searches from the settings of the run, without those that it searches.

    None where the settings are of a search, or not known, and where nothing would be searched.
    """
    searched = _searched(directory, settings)
    if config.from_study is not None or not searched:
        return None
    typed = [str(line) for line in yaml.safe_load(settings["overrides.yaml"]) or []]
    kept = [line for line in typed if _key(line) not in {*NOT_OF_A_SEARCH, *searched}]
    if config.test and (config.from_run is not None or "test" not in map(_key, typed)):  # it is not of this line
        kept.append("test=false")
    return command(*config_dir.option(directory), "-m", "hydra/sweeper=optuna", *kept)


def _key(line: str) -> str:
    return key_of(overrides.parse_line(line))


def _searched(directory: Path, settings: Mapping[str, str]) -> set[str]:
    """The keys that a search of these settings varies: those of search/OPTION.yaml for each option that was chosen.

    Of two such files, Hydra reads that of the program.
    """
    if "hydra.yaml" not in settings:
        return set()
    choices = yaml.safe_load(settings["hydra.yaml"])["hydra"]["runtime"]["choices"]
    folders = CONF, config_dir.recorded(directory) or CONF
    searched: set[str] = set()
    for option in choices.values():
        files = (folder / "search" / f"{option}.yaml" for folder in folders)
        file = next(filter(Path.is_file, files), None)
        entries = yaml.safe_load(file.read_text("utf-8")) if file else None
        searched |= {canonical(key) for key, value in (entries or {}).items() if "(" in str(value)}
    return searched

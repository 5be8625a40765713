"""The text of --help: each config group with its options, and the keys of each option with what is allowed there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cifar.options.config import CONF
from cifar.options.fields import describe
from cifar.options.option import Option, groups

COMMANDS = (
    "python run.py data=digits model.width=16                        # a minute, nothing to download",
    "python run.py optimizer=adam scheduler=cosine seed=3            # CIFAR-10, other options",
    "python run.py -m hydra/sweeper=optuna data=digits               # search lr, momentum, weight decay",
)


def help_text(conf: Path = CONF) -> str:
    """The text of --help, for a folder of config groups."""
    lines = ["Train bottleneck ResNets on CIFAR-10, and search their hyperparameters.", "", "Copy:"]
    lines += [f"  {command}" for command in COMMANDS]
    for folder in sorted(path for path in conf.rglob("*") if path.is_dir()):
        lines += _group(folder, str(folder.relative_to(conf)))
    lines += ["", "Keys outside the groups (python run.py --cfg job shows all, with their values):", ""]
    keys = (conf / "config.yaml").read_text("utf-8").split("\n\nhydra:")[0].split("\n\n", 1)[1]
    lines += keys.splitlines()
    return "\n".join(lines).replace("$", "$$") + "\n"  # Hydra fills in $NAME


def _group(folder: Path, name: str) -> list[str]:
    """A line for each option of a group, with its keys below it; keys that all options have come first."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        return []
    base = groups().get(name)
    shared = list(_keys(base)) if base else []
    lines = ["", f"{name}=", *(f"  {line}" for line in shared)]
    options = [_option(file, name) for file in files]
    for number, (file, option) in enumerate(zip(files, options, strict=True)):
        lines.append(f"  {file.stem:<20} {_line(file, option)}")
        if option is not None and option not in options[number + 1 :]:
            lines += [f"  {'':<20}   {line}" for line in _keys(option) if line not in shared]
    return lines


def _option(file: Path, name: str) -> type[Option] | None:
    """The option that a YAML file is of; None in groups without dataclasses (experiment, search, hydra/...)."""
    if name not in groups():
        return None
    settings = yaml.safe_load(file.read_text("utf-8"))
    settings = settings.get(name, settings)  # in files with `# @package _global_` the group's keys are one level deeper
    group = groups()[name]
    return group.options.get(settings.get(group.key))


def _line(file: Path, option: type[Option] | None) -> str:
    """The help line of an option, the first of its docstring; elsewhere the first comment of the YAML file.

    Where several files are of one option, the values in the file tell them apart.
    """
    if option is None:
        return _first_comment(file)
    line = (inspect.getdoc(option) or "").splitlines()[0]
    siblings = [other for other in file.parent.glob("*.yaml") if _option(other, option.group) is option]
    if len(siblings) == 1:
        return line
    settings = yaml.safe_load(file.read_text("utf-8"))
    values = [f"{key}={value}" for key, value in settings.items() if key != option.key]
    return f"{line} [{' '.join(values)}]"


def _keys(option: type[Option]) -> Iterator[str]:
    """A line for each key of an option: what is allowed there."""
    dataclass: Any = option
    for field in dataclasses.fields(dataclass):
        if field.name != option.key:
            yield f"{option.group}.{field.name}: {describe(field)}"


def _first_comment(file: Path) -> str:
    """The first comment; those for Hydra (# @package) do not count."""
    lines = (line.removeprefix("# ") for line in file.read_text("utf-8").splitlines() if line.startswith("# "))
    return next((line for line in lines if not line.startswith("@")), "")

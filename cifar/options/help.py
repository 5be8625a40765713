"""The text of --help: each config group with its options, and the keys of each option with what is allowed there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cifar.commands import as_started
from cifar.layout import CONF
from cifar.options.fields import describe
from cifar.options.option import Option, groups

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C it takes a tenth of the time
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
    return as_started("\n".join(lines)).replace("$", "$$") + "\n"  # Hydra fills in $NAME


def _group(folder: Path, name: str) -> list[str]:
    """A line for each option of a group, with its keys below it; keys that all options have come first."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        return []
    base = groups().get(name)
    if base is None:  # experiment, search, hydra/...: their options have no dataclasses
        return ["", f"{name}=", *(f"  {file.stem:<20} {_first_comment(file)}" for file in files)]
    shared = list(_keys(base))
    settings = [_settings(file, name) for file in files]
    options = [base.options[values[base.key]] for values in settings]
    lines = ["", f"{name}=", *(f"  {line}" for line in shared)]
    for number, (file, values, option) in enumerate(zip(files, settings, options, strict=True)):
        details = f" [{_values(values, base.key)}]" if options.count(option) > 1 else ""
        lines.append(f"  {file.stem:<20} {_help_line(option)}{details}")
        if option not in options[number + 1 :]:
            lines += [f"  {'':<20}   {line}" for line in _keys(option) if line not in shared]
    return lines


def _settings(file: Path, name: str) -> dict[str, Any]:
    """The settings of a group in a YAML file; with `# @package _global_` they are one level deeper."""
    settings: dict[str, Any] = yaml.load(file.read_text("utf-8"), LOADER)
    inner: dict[str, Any] = settings.get(name, settings)
    return inner


def _help_line(option: type[Option]) -> str:
    """The first line of the docstring."""
    return (inspect.getdoc(option) or "").splitlines()[0]


def _values(settings: dict[str, Any], key: str) -> str:
    """What tells apart several files of one option."""
    return " ".join(f"{name}={value}" for name, value in settings.items() if name != key)


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

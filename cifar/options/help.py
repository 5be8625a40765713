"""The text of --help: what there is, on one screen; --help GROUP lists the options and keys of a group."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cifar import commands
from cifar.layout import CONF
from cifar.options.config import Config
from cifar.options.fields import describe
from cifar.options.group_help import describe_group, from_files, from_store
from cifar.options.option import ConfigError
from cifar.options.yaml_lines import option_files, settings

COPY = (
    ("data=digits", "model.width=16"),
    ("experiment=photographs", "data=image_folder", "data.root=DIR"),
    ("-m", "hydra/sweeper=optuna", "data=digits", "model.width=16"),
)
"""The arguments of the commands to copy."""
OF_A_SEARCH = {name: f"hydra/sweeper/{name}" for name in ("pruner", "sampler")} | {"sweeper": "hydra/sweeper"}
"""The groups of a search, by the name that --help takes."""
FLAGS = ("--help", "-h")


def help_text(conf: Path = CONF) -> str:
    """The text of --help for a folder of config groups, as Hydra's template."""
    return "\n".join(_overview(conf)).replace("$", "$$") + "\n"  # Hydra fills in $NAME


def show_help(arguments: Sequence[str], conf: Path = CONF) -> None:
    """With --help GROUP among the arguments: print the help of that group, or of several, and exit.

    Raises ConfigError where there is no such group.
    """
    texts = ["\n".join(group_help(name, conf)) for name in _topics(arguments)]
    if texts:
        print("\n\n".join(texts))
        sys.exit()


def _topics(arguments: Sequence[str]) -> Iterator[str]:
    """The words that follow --help and are neither settings nor options."""
    positions = [position for position, word in enumerate(arguments) if word in FLAGS]
    for word in arguments[positions[0] + 1 :] if positions else ():
        if "=" in word or word.startswith("-"):
            return
        yield word


def group_help(name: str, conf: Path = CONF) -> Iterator[str]:
    """The lines of --help NAME. Raises ConfigError where there is no such group."""
    name = next((short for short, path in OF_A_SEARCH.items() if path == name), name)
    if name in OF_A_SEARCH:
        return describe_group(OF_A_SEARCH[name], from_store(OF_A_SEARCH[name], conf / OF_A_SEARCH[name]))
    if name not in _groups(conf):
        raise ConfigError(f"--help {name}: no such group; allowed: {', '.join([*_groups(conf), *OF_A_SEARCH])}")
    return describe_group(name, from_files(name, conf / name))


def _groups(conf: Path) -> dict[str, list[str]]:
    """The options of each group that has a folder, but for Hydra's."""
    folders = sorted(path for path in conf.iterdir() if path.is_dir() and path.name != "hydra")
    options = {folder.name: [file.stem for file in option_files(folder)] for folder in folders}
    return {name: names for name, names in options.items() if names}


def _overview(conf: Path) -> Iterator[str]:
    yield "Train bottleneck ResNets on CIFAR-10 or on your own images, and search their hyperparameters."
    yield from ("", "Copy:")
    yield from (f"  {commands.command(*arguments)}" for arguments in COPY)
    yield from ("", "Groups: GROUP=OPTION chooses an option, GROUP.KEY=VALUE sets one of its keys.")
    for name, names in _groups(conf).items():
        yield f"  {name:<12} {', '.join(names)}"
    yield from ("", "Groups of a search: as hydra/sweeper/pruner=median, hydra.sweeper.n_trials=50.")
    for name, path in sorted(OF_A_SEARCH.items()):
        yield f"  {name:<12} {path}={', '.join(option.name for option in from_store(path, conf / path))}"
    yield from ("", "Keys outside the groups, with their default values and what is allowed:")
    allowed = dict(_allowed(Config))
    for key, value, text in settings(conf / "config.yaml", ""):
        if key.partition(".")[0] not in ("hydra", *_groups(conf)):
            yield f"  {f'{key}={value}':<30} {'; '.join(filter(None, [allowed.get(key), text]))}"
    yield from ("", "More:")
    more = (
        (("--help", "data"), "the options of a group, and all their keys; or of sweeper, pruner, sampler"),
        (("--cfg", "job"), "all settings with their values"),
        (("--hydra-help",), "options of Hydra, such as --config-dir"),
    )
    for arguments, text in more:
        yield f"  {commands.command(*arguments):<30} {text}"


def _allowed(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The keys of a dataclass and of those in it, and what they allow."""
    for field in dataclasses.fields(settings):
        if isinstance(field.default_factory, type):
            yield from _allowed(field.default_factory, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", describe(field)

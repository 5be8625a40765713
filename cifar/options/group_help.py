"""--help GROUP: each option of a config group, and its keys with their default, what is allowed and what they do.

What a key does is the comment behind it in the option's YAML; where that has none, that of another option of the group.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from cifar.options.fields import describe
from cifar.options.option import groups
from cifar.options.yaml_lines import first_comment, option_files, settings

WIDTH = 42
"""Columns for a key and its value."""
FOR_HYDRA = ("defaults", "_target_", "_partial_")
"""Fields that are no settings."""
REMOVED = "raise_"
"""In the target of an option that the plugin keeps only to say that Optuna has removed it."""


@dataclass(frozen=True)
class Key:
    """A key with its default value, what is allowed, and what it does; "" where a file does not say it."""

    name: str
    value: str
    allowed: str = ""
    text: str = ""

    def lines(self) -> Iterator[str]:
        yield f"  {f'{self.name}={self.value}':<{WIDTH}} {self.allowed}".rstrip()
        if self.text:
            yield f"      {self.text}"


@dataclass(frozen=True)
class OptionHelp:
    """An option of a group, and what it is, in a line."""

    name: str
    line: str
    keys: list[Key]


def describe_group(group: str, options: list[OptionHelp]) -> Iterator[str]:
    """The options, the keys that all of them have, and those of each option that are others or differ from these."""
    yield f"{group}=OPTION, one of:"
    yield from (f"  {option.name:<20} {option.line}" for option in options)
    texts = {name: _most_frequent(key.text for key in keys if key.text) for name, keys in _by_name(options).items()}
    shared = _shared(options, texts)
    if shared:
        yield from ("", "Keys of all options, with their default values (???: give one) and what is allowed:")
        for key in shared.values():
            yield from key.lines()
    for option in options:
        others = [key for key in option.keys if not _is_shared(key, shared)]
        if others:
            yield from ("", f"{group}={option.name}")
        for key in others:
            text = "" if key.name in shared and key.text == texts[key.name] else key.text
            is_new = key.name not in shared
            yield from dataclasses.replace(key, text=text or (texts[key.name] if is_new else "")).lines()


def _by_name(options: list[OptionHelp]) -> dict[str, list[Key]]:
    keys: dict[str, list[Key]] = {}
    for option in options:
        for key in option.keys:
            keys.setdefault(key.name, []).append(key)
    return keys


def _shared(options: list[OptionHelp], texts: dict[str, str]) -> dict[str, Key]:
    """The keys that all options have, each with its most frequent value and text."""
    if len(options) == 1:
        return {}
    every = {name: keys for name, keys in _by_name(options).items() if len(keys) == len(options)}
    values = {name: _most_frequent(key.value for key in keys if key.value) for name, keys in every.items()}
    return {name: Key(name, values[name], every[name][0].allowed, texts[name]) for name in every}


def _is_shared(key: Key, shared: dict[str, Key]) -> bool:
    other = shared.get(key.name)
    return other is not None and key.value in ("", other.value) and key.text in ("", other.text)


def _most_frequent(values: Iterable[str]) -> str:
    counts = Counter(values).most_common(1)
    return counts[0][0] if counts else ""


def from_files(group: str, folder: Path) -> list[OptionHelp]:
    """The options of a group that has a folder of YAML files."""
    return [OptionHelp(file.stem, first_comment(file), _keys(group, file)) for file in option_files(folder)]


def _keys(group: str, file: Path) -> list[Key]:
    """The settings in a file, but for the key that names the option."""
    rows = list(settings(file, group))
    base = groups().get(group)
    if base is None:  # experiment, search: any settings
        return [Key(name, value, "", text) for name, value, text in rows]
    chosen = f"{group}.{base.key}"
    values = {name: value for name, value, _ in rows}
    option: Any = base.options[values[chosen]]
    allowed = {f"{group}.{field.name}": describe(field) for field in dataclasses.fields(option)}
    keys = [Key(name, value, allowed.get(name, ""), text) for name, value, text in rows if name != chosen]
    present = {".".join(name.split(".")[:2]) for name in values}
    return [*keys, *(Key(name, "", words) for name, words in allowed.items() if name not in present)]


def from_store(path: str, folder: Path) -> list[OptionHelp]:
    """The options of a group that is registered with Hydra as dataclasses; where `folder` has files, those alone."""
    names = [name.removesuffix(".yaml") for name in ConfigStore.instance().list(path) if name.endswith(".yaml")]
    files = {file.stem: file for file in folder.glob("*.yaml")}
    nodes = {name: ConfigStore.instance().load(f"{path}/{name}.yaml").node for name in sorted(names)}
    parent = path.replace("/", ".")
    return [
        OptionHelp(name, first_comment(files[name]) if files else _first_line(node), _registered_keys(parent, node))
        for name, node in nodes.items()
        if (name in files or not files) and REMOVED not in str(node.get("_target_"))
    ]


def _first_line(node: DictConfig) -> str:
    """The first line of a dataclass's docstring."""
    return (inspect.getdoc(OmegaConf.get_type(node)) or "").strip().splitlines()[0]


def _registered_keys(parent: str, node: DictConfig) -> list[Key]:
    """The fields of a dataclass that are settings: not those for Hydra, and no groups, which are chosen apart."""
    kind: Any = OmegaConf.get_type(node)
    values: Any = OmegaConf.to_container(node, resolve=False)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in FOR_HYDRA}
    is_group = {name: values[name] == MISSING and field.type != "str" for name, field in fields.items()}
    return [
        Key(f"{parent}.{name}", _as_written(values[name]), _allowed(field), field.metadata.get("help", ""))
        for name, field in fields.items()
        if not is_group[name]
    ]


def _allowed(field: dataclasses.Field[Any]) -> str:
    """What a field allows, in words; "" where its type does not say it."""
    return "" if "Any" in str(field.type) and "allowed" not in field.metadata else describe(field)


def _as_written(value: Any) -> str:
    """A value as a command line has it."""
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    return str(yaml.safe_dump(value)).removesuffix("...\n").strip()

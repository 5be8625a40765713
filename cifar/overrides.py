"""Hydra's overrides, as key=value: their keys, their values, and texts that Hydra reads as a value. No Optuna."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException


def parse(lines: list[str], loader: ConfigLoader | None = None) -> list[Override]:
    """The overrides in these lines; the values of glob(...) need the loader. Raises HydraException for another line."""
    return OverridesParser.create(config_loader=loader).parse_overrides(lines)


def parse_line(line: str) -> Override:
    """As `parse`, of one line."""
    return OverridesParser.create().parse_override(line)


def canonical(key: str) -> str:
    """The key of an override without +, ++ or ~, and with dots for brackets: equal for equal places in the config."""
    return re.sub(r"\[([^\]]+)\]", r".\1", key.lstrip("+~"))


def key_of(override: Override) -> str:
    """The place in the config, or the config group, that an override is of."""
    return canonical(override.key_or_group)


def keys_of(override: Override) -> set[str]:
    """The places in the config that an override decides: its key, or of a dict, which Hydra merges, those in it."""
    return {key for key, _ in leaves(override)}


def is_within(key: str, places: Iterable[str]) -> bool:
    """Whether a key is one of these places in the config, or below one."""
    return any(f"{key}.".startswith(f"{place}.") for place in places)


def leaves(override: Override) -> Iterator[tuple[str, Any]]:
    """The places that an override sets, with their values: of a mapping, each below it; an empty one is a value."""
    return _leaves(key_of(override), override.value())


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield key, value
        return
    for name, below in value.items():
        yield from _leaves(f"{key}.{name}", below)


def to_text(value: Any) -> str:
    """What Hydra reads as this very value: texts are quoted where they would be read as anything else."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, list):
        return "[" + ",".join(map(to_text, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{to_text(name)}:{to_text(nested)}" for name, nested in value.items()) + "}"
    if value is None:
        return "null"
    if not isinstance(value, str):
        return str(value)
    return value if _is_read_as_text(value) else QuotedString(value, Quote.single).with_quotes()


def _is_read_as_text(text: str) -> bool:
    try:
        override = parse_line(f"key={text}")
    except HydraException:
        return False
    return not override.is_sweep_override() and override.value() == text


def from_text(text: str) -> Any:
    """The value that Hydra reads."""
    return parse_line(f"key={text}").value()

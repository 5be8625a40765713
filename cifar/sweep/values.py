"""Keys and values of hyperparameters: as Hydra reads them on a command line, and as a study holds them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution

from cifar.sweep.optuna_private import distribution_of_range

GroupOptions = Callable[[str], list[str]]
"""Returns the options of a config group, none where the key is not a group."""
Literals = Mapping[str, str]
"""Choices that are no texts but that a study can only hold as texts (null, lists, dicts): what Hydra reads for each."""


def canonical(key: str) -> str:
    """The key of an override without +, ++ or ~, and with dots for brackets: equal for equal places in the config."""
    return re.sub(r"\[([^\]]+)\]", r".\1", key.lstrip("+~"))


def keys_of(override: Override) -> set[str]:
    """The places in the config that an override decides: its key, or of a dict, which Hydra merges, those in it."""
    key = canonical(override.get_key_element())
    value = None if override.is_sweep_override() or override.is_delete() else override.value()
    return set(_leaves(key, value))


def _leaves(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping) or not value:
        yield key
        return
    for name, nested in value.items():
        yield from _leaves(f"{key}.{name}", nested)


def parse_line(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


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


def distribution_of(override: Override, group_options: GroupOptions) -> tuple[BaseDistribution, Literals]:
    """The distribution of a sweep, and those of its choices that are not the texts that the study holds.

    Raises ValueError, AssertionError or NotImplementedError for a sweep that Optuna cannot sample.
    """
    sweep: Any = override.value()
    if isinstance(sweep, Glob):
        return _matching(sweep, group_options(override.key_or_group))
    if isinstance(sweep, ChoiceSweep):
        return _choice(sweep.list)
    if isinstance(sweep, RangeSweep) and (sweep.shuffle or sweep.transformers):
        return _choice(list(sweep))  # in the order that was written: another one would be another space at each start
    return distribution_of_range(override), {}


def _matching(glob: Glob, options: list[str]) -> tuple[BaseDistribution, Literals]:
    names = glob.filter(options)
    if not names:
        allowed = f"it matches none of {', '.join(options)}" if options else "not a config group; allowed: choice(...)"
        raise ValueError(allowed)
    return _choice(names)


def _choice(elements: list[Any]) -> tuple[BaseDistribution, Literals]:
    """Raises ValueError for two different choices that are the same for a study."""
    choices: list[Any] = []
    literals: dict[str, str] = {}
    texts: dict[Any, str] = {}
    for element in elements:
        value = element.text if isinstance(element, QuotedString) else element
        text = to_text(value)
        if value is None or isinstance(value, (list, dict)):
            value = literals[text] = text
        if texts.setdefault(value, text) != text:
            raise ValueError(f"a study cannot tell {texts[value]} from {text}; leave one of them out")
        choices.append(value)
    return CategoricalDistribution(choices), literals

"""The values of hyperparameters: as Hydra reads them on a command line, and as a study holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    QuotedString,
    RangeSweep,
)
from optuna.distributions import BaseDistribution, CategoricalDistribution

from cifar.overrides import to_text
from cifar.sweep.optuna_private import distribution_of_range

GroupOptions = Callable[[str], list[str]]
"""Returns the options of a config group, none where the key is not a group."""
Literals = Mapping[str, str]
"""Choices that are no texts but that a study can only hold as texts (null, lists, dicts): what Hydra reads for each."""


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

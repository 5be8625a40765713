"""Fields of an option that say what is allowed, for checks, errors and --help."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any

from omegaconf import MISSING

TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def restricted(allowed: str, allows: Callable[[Any], object], default: Any = MISSING, whole: bool = False) -> Any:
    """A field whose values `allows` accepts; `allowed` says in words which these are.

    A list is checked item by item, or as a `whole`.
    """
    return field(default=default, metadata={"allowed": allowed, "allows": allows, "whole": whole})


def within(interval: str, default: Any = MISSING) -> Any:
    """A number in `interval`, in the usual notation: "(0, inf)", "[0, 1)". In a list: each item."""
    left, low, high, right = re.fullmatch(r"([(\[])(\S+), (\S+)([)\]])", interval).groups()  # type: ignore[union-attr]

    def allows(x: float) -> bool:
        above = x > float(low) or (left == "[" and x == float(low))
        below = x < float(high) or (right == "]" and x == float(high))
        return above and below

    return restricted(f"a number in {interval}", allows, default)


def one_of(*values: str, default: Any = MISSING) -> Any:
    """A text with these values only."""
    return restricted(", ".join(values), values.__contains__, default)


def matching(pattern: str, allowed: str) -> Any:
    """A text that matches `pattern` as a whole; `allowed` says so in words."""
    return restricted(allowed, re.compile(pattern).fullmatch)


def allows(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field allows a value, or each item of a list; null is checked by the type alone."""
    check = field.metadata.get("allows")
    items = value if isinstance(value, list) and not field.metadata.get("whole") else [value]
    return check is None or all(item is None or bool(check(item)) for item in items)


def describe(field: dataclasses.Field[Any]) -> str:
    """What a field allows, in words: its type, and its range or its choices where it has any."""
    kind, *optional = str(getattr(field.type, "__name__", field.type)).split(" | ")  # a class, where it is not quoted
    item = kind.removeprefix("list[").removesuffix("]")
    words = TYPES.get(item, "a group of settings")
    words = field.metadata.get("allowed", words).replace("a number", words)
    if kind.startswith("list["):
        words = f"a list, each item {words}"
    return f"{words} or null" if optional else words

"""Files that may be missing, damaged or half-written."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from cifar.formatting import first_line
from cifar.results import ResultsError

T = TypeVar("T")
UNREADABLE = (ResultsError, OSError, ValueError, TypeError, KeyError, csv.Error, yaml.YAMLError)
"""What reading a damaged file raises."""


def attempt(read: Callable[[], T], default: T, problems: list[str], label: str = "") -> T:
    """What `read` returns; where it cannot read, the default, and the reason is appended to `problems`."""
    try:
        return read()
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) else None
        problems.append(f"{label}{reason or first_line(error)}")
        return default


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ValueError where it holds something else."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C it takes a tenth of the time
    loaded = yaml.load(path.read_text("utf-8"), loader)
    if not isinstance(loaded, dict):
        raise ValueError("holds no settings")
    return loaded


def value_at(nested: Any, key: str) -> Any:
    """The value of nested dicts at a dotted key; None where there is none."""
    for name in key.split("."):
        nested = nested.get(name) if isinstance(nested, dict) else None
    return nested

"""Groups of images that a split keeps whole, such as the pictures of one patient, or of one burst."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from cifar.data.images import DataError

NAMES_SHOWN = 3
"""File names in one message."""


def group_numbers(values: Iterable[object]) -> Tensor:
    """int64 (N,): equal values have equal numbers, from 0 in the order of their first appearance."""
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values], dtype=torch.int64)


def groups_by_pattern(pattern: str, names: Sequence[str]) -> Tensor:
    """int64 (N,): the groups of files by what a regular expression finds in their names, as cifar.options.splits says.

    Where it finds the empty text, as PATTERN|$ does in other names, the file is a group by itself. Raises DataError
    where it is not in each name.
    """
    matches = [re.search(pattern, name) for name in names]
    others = [name for name, match in zip(names, matches, strict=True) if match is None]
    if others:
        more = f" and {len(others) - NAMES_SHOWN} more" if len(others) > NAMES_SHOWN else ""
        raise DataError(
            f"data.groups=regex:{pattern}: not in {len(others)} of {len(names)} file names:"
            f" {', '.join(others[:NAMES_SHOWN])}{more}; allowed: a regular expression that is in each; with |$ at its"
            " end, each of these files is a group by itself"
        )
    return group_numbers(_group(match) or position for position, match in enumerate(matches) if match)


def _group(match: re.Match[str]) -> str:
    """The first capture group that took part, or else the whole match."""
    return next((text for text in match.groups() if text is not None), match[0])

"""Numbers as texts, for the terminal, the report and the figures alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from html import escape
from typing import Any

LARGEST_WHOLE = 2**53
"""Up to here a float is as exact as an int."""
PREFIXES = ("", "k", "M", "G")


def format_value(value: Any) -> str:
    """A setting or a hyperparameter: numbers with a fraction to four significant digits, all else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_count(count: float) -> str:
    """Three digits and the SI prefix, as 510 k or 23.5 M."""
    thousands = min(len(PREFIXES) - 1, int(math.log10(max(count, 1)) / 3 + 1e-9))
    return f"{count / 1000**thousands:.3g} {PREFIXES[thousands]}".rstrip()


def count_of(number: int, noun: str) -> str:
    """A number with its noun, as 1 epoch or 2 epochs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shortened(texts: Iterable[str], most: int) -> str:
    """The first ones, at most `most`, and how many more there are, as a, b and 3 more."""
    every = list(texts)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def spelled(name: str) -> str:
    """The name of a column or of a metric in words, as val macro F1."""
    return re.sub(r"\bf1\b", "F1", name.replace("_", " "))


def format_interval(low: float, high: float, pattern: str = ".4f", missing: str = "no interval from one value") -> str:
    """low to high, each as `pattern` formats it; `missing` where the interval is NaN."""
    return missing if math.isnan(low) else f"{low:{pattern}} to {high:{pattern}}"


def format_time(seconds: float) -> str:
    """In seconds, then as 9 min 54 s, as 1 h 5 min from an hour on, as 2 d 3 h from a day on."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 1440:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def as_whole(value: Any) -> Any:
    """A float without a fraction as an int, as it was before the gaps of other rows turned its column into floats."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE
    return int(value) if is_whole else value


def cell(value: Any) -> str:
    """Any text as one line of Markdown, also in a table."""
    return " ".join(escape(str(value), quote=False).replace("|", "\\|").split())

"""Cells of CSV files that spreadsheets open: none that begins as a formula is run there.

Such files are findings.csv, the fixes that its page saves, and fixes.csv of a run: all that data.fixes reads. Files
that programs read hold names as they are: split.csv, predictions.csv, unreadable.csv, and what cifar.predict writes.
"""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by (OWASP, CSV injection)."""
MARK = "'"


def safe_cell(text: str) -> str:
    """A text as a cell: after an apostrophe where it would be a formula, or would be read as a marked one."""
    return MARK + text if text.lstrip(MARK).startswith(FORMULA) else text


def plain_cell(cell: str) -> str:
    """The text that safe_cell made this cell of."""
    return cell.removeprefix(MARK) if cell.lstrip(MARK).startswith(FORMULA) else cell

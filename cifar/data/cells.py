"""Cells of CSV files that spreadsheets open: none that begins as a formula is run there."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by (OWASP, CSV injection)."""
MARK = "'"


def safe_cell(text: str) -> str:
    """A text as a cell: after an apostrophe where it would be a formula, or would be read as a marked one."""
    is_formula = text.removeprefix(MARK).startswith(FORMULA)
    return MARK + text if is_formula else text


def plain_cell(cell: str) -> str:
    """The text that safe_cell made this cell of."""
    text = cell.removeprefix(MARK)
    return text if text.removeprefix(MARK).startswith(FORMULA) else cell

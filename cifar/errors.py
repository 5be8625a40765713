"""Errors that a user can fix. run.py prints them in one line; every other exception keeps its traceback."""

from __future__ import annotations

from typing import ClassVar


class UserError(Exception):
    """Base class. The message says what is wrong, where, what is allowed, and what to do."""

    several_lines: ClassVar[bool] = False
    """Whether the lines of the message are kept; otherwise it is shown as one."""
    of_one_run: ClassVar[bool] = False
    """Whether another run with the same settings may not have it."""

"""Errors that a user can fix. run.py prints them in one line; every other exception keeps its traceback."""

from __future__ import annotations


class UserError(Exception):
    """Base class. The message says what is wrong, where, what is allowed, and what to do."""

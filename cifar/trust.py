"""The modules that a `_target_` may name beyond what the program declares. Imports neither torch nor Hydra.

Only the person who starts the program grants this: trust=[my_module] on the command line given to it, or the variable
CIFAR_TRUST (comma-separated). It is read once, when this module is imported, so that no setting of a file
(hydra.job.env_set) can change it later. Processes that this one starts inherit the variables.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from cifar.errors import UserError

MODULES, DIRECTORY = "CIFAR_TRUST", "CIFAR_TRUST_DIRECTORY"
"""The variables with the trusted modules, and with the directory of the start, where they are."""


class TrustError(UserError):
    """What is to be trusted is not the name of a module."""


def _names(names: Iterable[str]) -> tuple[str, ...]:
    """The names without spaces, empty ones and repetitions. Raises TrustError."""
    stripped = dict.fromkeys(name for name in map(str.strip, names) if name)
    for name in stripped:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
            raise TrustError(f"trust={name}: not the name of a module; allowed: trust=[my_module], CIFAR_TRUST=a,b")
    return tuple(stripped)


_granted = os.environ.get(MODULES, "").split(",")
_directory = os.environ.get(DIRECTORY) or str(Path.cwd())


def grant(modules: Iterable[str], directory: str | None = None) -> None:
    """Trust these modules too, in this process and in those that it starts; they are imported from `directory`.

    By default that is the directory in which the first process was started. Raises TrustError.
    """
    global _granted, _directory
    _granted = list(_names([*_granted, *modules]))
    _directory = directory or _directory
    os.environ[MODULES] = ",".join(_granted)
    os.environ[DIRECTORY] = _directory


def granted() -> tuple[tuple[str, ...], str]:
    """The trusted modules, and the directory from which they are imported: the arguments of `grant`."""
    return _names(_granted), _directory


def trusted() -> tuple[str, ...]:
    """What is trusted, as patterns of import paths ("my_module", "my_module.*"); from now on it can be imported."""
    names = _names(_granted)
    if names and _directory not in sys.path:
        sys.path.append(_directory)  # at the end: a file there does not hide an installed package
    return tuple(pattern for name in names for pattern in (name, f"{name}.*"))

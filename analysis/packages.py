"""The packages of the extra "analysis", which reports and figures need and the rest of the program does not."""

from __future__ import annotations

import sys
from importlib import import_module

from cifar.commands import install

PACKAGES = ("plotly", "matplotlib", "jinja2")


def require(command: str) -> None:
    """Exit with one line where a package is not installed; call it before the imports that need them."""
    missing = [package for package in PACKAGES if not _is_installed(package)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        sys.exit(f"error: {command}: {', '.join(missing)} {are} not installed; do: {install('analysis')}")


def _is_installed(package: str) -> bool:
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return False
    return True

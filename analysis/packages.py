"""The packages of the extra "analysis", which reports and figures need and the rest of the program does not."""

from __future__ import annotations

import sys

from cifar import packages

PACKAGES = ("plotly", "matplotlib", "jinja2")


def require(command: str) -> None:
    """Exit with one line where a package is not installed; call it before the imports that need them."""
    try:
        packages.require(command, "analysis", *PACKAGES)
    except packages.PackageError as error:
        sys.exit(f"error: {error}")

"""Packages that only some parts of the program need: extras of setup.cfg install them."""

from __future__ import annotations

from importlib.util import find_spec

from cifar.commands import install
from cifar.errors import UserError


class PackageError(UserError):
    """A package that is needed is not installed."""


def require(what: str, extra: str, *modules: str, alternative: str = "") -> None:
    """Raises PackageError where a module is missing that `what`, as tracker=mlflow, needs, and names its extra.

    `alternative`: what else can be done, as ", or ...".
    """
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise PackageError(f"{what}: {', '.join(missing)} {are} not installed; do: {install(extra)}{alternative}")


def _is_installed(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # without an origin: a folder of that name, as W&B makes

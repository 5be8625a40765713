"""The console commands, which pip installs: cifar-search, cifar-summary and so on; setup.cfg lists them.

Each imports its program after Ctrl-C is handled.
"""

from __future__ import annotations

from importlib import import_module

from cifar import endings, layout
from cifar.commands import module_command


def search() -> None:
    """Train or search: what run.py does."""
    endings.prepare()
    from cifar.run import command_line

    command_line()


def summary() -> None:
    endings.prepare()
    endings.run(layout.analysis("summary").main)


def report() -> None:
    endings.prepare()
    layout.analysis("packages").require(module_command("analysis.report"))
    endings.run(layout.analysis("report").main)


def predict() -> None:
    _start("cifar.predict")


def export() -> None:
    _start("cifar.export")


def serve() -> None:
    _start("cifar.serve.__main__")


def inspect() -> None:
    _start("cifar.inspection.__main__")


def cache() -> None:
    _start("cifar.cache")


def _start(module: str) -> None:
    """Call main(argv) of a command's module."""
    endings.prepare()
    endings.run(import_module(module).main)

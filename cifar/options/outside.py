"""The user's folder of images is never written to: what is written must be outside of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cifar.options.option import ConfigError

SQLITE = "sqlite:///"


def database(uri: object) -> str | None:
    """The file of a database of SQLite; None for another one."""
    return str(uri).removeprefix(SQLITE) if str(uri).startswith(SQLITE) else None


def check_outside(root: str | None, outputs: Mapping[str, str | Path | None]) -> None:
    """Raises ConfigError where a folder or file that is written to lies in the folder `root`, also through links.

    `outputs`: by the setting or the option that names it; None: nothing is written. `root` None: there is no folder.
    """
    if root is None or not Path(root).expanduser().is_dir():
        return
    folder = Path(os.path.realpath(Path(root).expanduser()))
    for name, output in outputs.items():
        if output is None:
            continue
        place = Path(os.path.realpath(Path(output).expanduser()))
        if not place.is_relative_to(folder):
            continue
        setting = f"{name}={output}" if "." in name else f"{name} {output}"
        whole = " (it holds this whole directory)" if Path.cwd().resolve().is_relative_to(folder) else ""
        remedy = f"{name}=DIR" if "." in name else f"{name} DIR"
        raise ConfigError(
            f"{setting}: inside of data.root={root}{whole}, and a folder of images is never written to; allowed: a"
            f" place outside of it, as {remedy}, or another data.root"
        )

"""The user's own folder of config files: --config-dir adds it to the program's conf/.

A run or a search that was started with one is resumed, trained and confirmed with it: printed commands need not name
it. Of files of the same name the program's is used, as everywhere in Hydra.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader

from cifar.layout import CONF
from cifar.options.hydra_private import add_config_dir
from cifar.options.option import ConfigError
from cifar.options.shared import read_yaml, say

PROVIDER = "command-line"
"""Hydra's name for what --config-dir adds."""


def check_names(loader: ConfigLoader) -> None:
    """Raises ConfigError where a file in the user's folder would have no effect, as the program has one of its name."""
    folder = _given(loader)
    for file in sorted(folder.rglob("*.yaml")) if folder else []:
        name = file.relative_to(str(folder))
        same = CONF / name
        if same.is_file() and file.resolve() != same.resolve() and file.read_bytes() != same.read_bytes():
            raise ConfigError(
                f"{file}: without effect, as there is an option {name.with_suffix('')} already; allowed: another name,"
                f" as {name.with_name('my_' + name.name)}"
            )


def bring(loader: ConfigLoader, run: Path) -> None:
    """Add the folder with which the run in a directory was started, where this start names none; says so."""
    folder = recorded(run)
    if folder is None or _given(loader) is not None:
        return
    if not folder.is_dir():
        say(f"warning: {run} was started with --config-dir {folder}, which is not there any more")
        return
    add_config_dir(loader, PROVIDER, folder)
    say(f"{run}: as it was started: --config-dir {folder}")


def recorded(run: Path) -> Path | None:
    """The folder with which a run was started, None where there was none."""
    file = run / ".hydra" / "hydra.yaml"
    record = read_yaml(file) if file.exists() else None
    return next((Path(str(source["path"])) for source in _sources(record) if source.get("provider") == PROVIDER), None)


def _sources(record: Any) -> Iterator[dict[str, Any]]:
    """hydra.runtime.config_sources of a record; none where it has another form."""
    for name in ("hydra", "runtime", "config_sources"):
        record = record.get(name) if isinstance(record, dict) else None
    yield from (source for source in record or () if isinstance(source, dict) and "path" in source)


def _given(loader: ConfigLoader) -> Path | None:
    """The folder of this start."""
    return next((Path(source.path) for source in loader.get_sources() if source.provider == PROVIDER), None)

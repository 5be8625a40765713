"""The user's own folder of config files: --config-dir adds it to the program's conf/.

A run or a search that was started with one is resumed, trained and confirmed with it: printed commands need not name
it. Of files of the same name the program's is used, as everywhere in Hydra.
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_loader import ConfigLoader

from cifar.config_dir import PROVIDER, recorded
from cifar.layout import CONF
from cifar.options.hydra_private import add_config_dir
from cifar.options.option import ConfigError
from cifar.options.shared import say


def check_names(loader: ConfigLoader) -> None:
    """Raises ConfigError where a file in the user's folder would have no effect, as the program has one of its name."""
    folder = _given(loader)
    if folder is None:
        return
    for option in sorted(CONF.rglob("*.yaml")):
        name = option.relative_to(CONF)
        file = folder / name
        if file.is_file() and file.read_bytes() != option.read_bytes():
            raise ConfigError(
                f"{file}: without effect, as there is an option {name.with_suffix('')} already; allowed: another name,"
                f" as {name.with_name('my_' + name.name)}"
            )


def add_recorded_folder(loader: ConfigLoader, run: Path) -> None:
    """Add the folder with which the run in a directory was started, where this start names none; says so."""
    folder = recorded(run)
    if folder is None or _given(loader) is not None:
        return
    if not folder.is_dir():
        say(f"warning: {run} was started with --config-dir {folder}, which is not there any more")
        return
    add_config_dir(loader, PROVIDER, folder)
    say(f"{run}: as it was started: --config-dir {folder}")


def _given(loader: ConfigLoader) -> Path | None:
    """The folder of this start."""
    return next((Path(source.path) for source in loader.get_sources() if source.provider == PROVIDER), None)

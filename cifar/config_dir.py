"""The user's own folder of config files (--config-dir) with which a run was started, as Hydra recorded it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PROVIDER = "command-line"
"""Hydra's name for what --config-dir adds to its search path."""


def recorded(run: Path) -> Path | None:
    """The folder with which the run in a directory was started; None where there was none, or where that is unknown."""
    try:
        record = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    for name in ("hydra", "runtime", "config_sources"):
        record = record.get(name) if isinstance(record, dict) else None
    sources: list[Any] = record if isinstance(record, list) else []
    return next((Path(str(source["path"])) for source in sources if _is_given(source)), None)


def _is_given(source: Any) -> bool:
    return isinstance(source, dict) and source.get("provider") == PROVIDER and "path" in source


def option(run: Path) -> list[str]:
    """The words of a command line that give the folder; empty where there was none."""
    folder = recorded(run)
    return ["--config-dir", str(folder)] if folder else []

"""What others may see of a run: its settings, overrides and weights, with nothing that names a place on its machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from cifar.metadata import ELSEWHERE
from cifar.options.config import Config
from cifar.overrides import key_of, parse

PRIVATE = (*ELSEWHERE, "data.root", "device", "threads")
"""Settings that say where something is or runs, not what was trained."""
ABSOLUTE = re.compile(r"""(?<![^\s=:,'"\[{(])[~/]""")
"""Where an absolute path begins in an override."""
PRIVATE_OVERRIDES = (*PRIVATE, "from_run", "hydra", "trust")


def public_settings(config: Config) -> dict[str, Any]:
    """The settings that decide what is trained; of a file of weights its name alone."""
    settings: dict[str, Any] = dataclasses.asdict(config)
    for key in PRIVATE:
        group, _, name = key.rpartition(".")
        (settings[group] if group else settings).pop(name, None)
    settings["transfer"] = public_transfer(settings["transfer"])
    settings["from_run"] = settings["from_run"] and Path(settings["from_run"]).name
    return {key: without_folders(value) for key, value in settings.items()}


def without_folders(value: Any) -> Any:
    """Nested settings; of a text that is an absolute path, as an argument of a network may be, its name alone."""
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(each) for each in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def public_transfer(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of `transfer`; of a file of weights its name alone."""
    weights = settings.get("weights")
    return {**settings, "weights": public_weights(weights)} if weights else settings


def public_weights(weights: object) -> str:
    """The name of weights; of a file that without its folder."""
    return Path(str(weights)).name


def settings_text(config: Config) -> str:
    """The settings as YAML."""
    head = "# All settings of the run that trained this model, without places and machines.\n"
    return head + str(yaml.safe_dump(public_settings(config), sort_keys=False, allow_unicode=True))


def settings_fingerprint(config: Config) -> str:
    """SHA-256 of the settings."""
    return hashlib.sha256(json.dumps(public_settings(config), sort_keys=True).encode()).hexdigest()


def public_overrides(run: Path) -> list[str]:
    """The overrides of the command line that trained the run in a directory; none where they were not recorded."""
    try:
        recorded = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    overrides = parse([str(line) for line in recorded]) if isinstance(recorded, list) else []
    lines = [(key_of(override), str(override.input_line)) for override in overrides]
    return [line for key, line in lines if not is_private(key, line)]


def is_private(key: str, line: str) -> bool:
    """Whether an override, which sets a key, says where something is or runs."""
    names_place = key == "transfer.weights" and "/" in line
    is_elsewhere = any(f"{key}.".startswith((f"{private}.", f"{private}/")) for private in PRIVATE_OVERRIDES)
    return names_place or is_elsewhere or ABSOLUTE.search(line.lstrip("+~")) is not None

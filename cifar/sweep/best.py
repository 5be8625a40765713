"""best.yaml and confirmed.yaml: the best trial of a study, and from_study=DIR, which trains with its settings.

Imports no Optuna.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cifar.errors import UserError
from cifar.files import write_atomically

NAME, CONFIRMED = "best.yaml", "confirmed.yaml"
KEY = "from_study="


class BestError(UserError):
    """A study without a best trial."""


def save(path: Path, values: dict[str, Any]) -> None:
    """Write a YAML file, whole or not at all."""
    text = OmegaConf.to_yaml(OmegaConf.create(values))
    write_atomically(path, text.encode())


def expand(arguments: list[str]) -> list[str]:
    """A command line with the overrides of the best trial of the study it names; those given explicitly win."""
    named = [argument.removeprefix(KEY) for argument in arguments if argument.startswith(KEY)]
    if not named or named[-1] in ("", "null"):
        return arguments
    explicit = [argument.partition("=")[0].lstrip("+~") for argument in arguments if "=" in argument]
    kept = [override for override in _overrides(Path(named[-1])) if not _decided(_key(override), explicit)]
    return [*kept, *arguments]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _decided(key: str, explicit: list[str]) -> bool:
    """Whether the command line gives the key, or another option of the group that it belongs to."""
    return any(key == given or key.startswith(f"{given}.") for given in explicit)


def _overrides(study: Path) -> list[str]:
    path = next((study / name for name in (CONFIRMED, NAME) if (study / name).exists()), None)
    if path is None:
        found = sorted(str(other.parent) for other in study.parent.glob(f"*/{NAME}")) if study.parent.exists() else []
        raise BestError(
            f"{KEY}{study}: no {NAME} in it, which a search writes once a trial is complete;"
            f" allowed: {', '.join(found) or 'the folder of a study, as sweeps/NAME'}"
        )
    best = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(best, dict)
    return [str(override) for override in best["overrides"]]

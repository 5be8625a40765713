"""from_study=DIR: train with the settings of the best trial of a study, which best.yaml or confirmed.yaml holds.

Imports no Optuna.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from cifar.errors import UserError

NAME, CONFIRMED = "best.yaml", "confirmed.yaml"
KEY = "from_study="


class BestError(UserError):
    """A study without a best trial."""


def expand(arguments: list[str]) -> list[str]:
    """A command line with the overrides of the best trial of the study that it names; what it gives itself wins."""
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

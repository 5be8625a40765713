"""resume=DIR and from_study=DIR on the command line bring along the settings of a run, or of a study's best trial."""

from __future__ import annotations

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cifar.commands import override
from cifar.options.option import ConfigError

RESUME, FROM_STUDY = "resume=", "from_study="
BEST, CONFIRMED = "best.yaml", "confirmed.yaml"
"""Where a search keeps the settings of its best trial, and of the one that a confirmation chose."""


def expand(arguments: list[str]) -> list[str]:
    """A command line with the settings that resume= and from_study= name; settings given explicitly win.

    Raises ConfigError where the directory holds no run, or no best trial.
    """
    return _with_best_trial(_with_resumed_run(arguments))


def _last(key: str, arguments: list[str]) -> str | None:
    """The last value of a key; None where there is none or null."""
    lines = [argument for argument in arguments if argument.startswith(key)]
    values = [override.value() for override in OverridesParser.create().parse_overrides(lines[-1:])]
    return str(values[0]) if values and values[0] not in ("", None) else None


def _with_resumed_run(arguments: list[str]) -> list[str]:
    """With the overrides of the run that resume= names, and its directory as the run's."""
    directory = _last(RESUME, arguments)
    if directory is None or not {"-m", "--multirun"}.isdisjoint(arguments):
        return arguments
    saved = Path(directory) / ".hydra" / "overrides.yaml"
    if not saved.exists():
        raise ConfigError(f"resume={directory}: not a run directory, it has no .hydra/overrides.yaml")
    lines = OmegaConf.to_container(OmegaConf.load(saved), resolve=False)
    assert isinstance(lines, list)
    overrides = [str(line) for line in lines if not str(line).startswith(RESUME)]
    return [*overrides, override("hydra.run.dir", directory), *arguments]


def _with_best_trial(arguments: list[str]) -> list[str]:
    """With the overrides of the best trial of the study that from_study= names."""
    study = _last(FROM_STUDY, arguments)
    if study is None:
        return arguments
    explicit = [_key(argument) for argument in arguments if "=" in argument]
    kept = [override for override in _best_overrides(Path(study)) if not _is_decided(_key(override), explicit)]
    return [*kept, *arguments]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _is_decided(key: str, explicit: list[str]) -> bool:
    """Whether the command line gives the key, or another option of the group that it belongs to."""
    return any(key == other or key.startswith(f"{other}.") for other in explicit)


def _best_overrides(study: Path) -> list[str]:
    """The command line of the confirmed trial of a study, else of its best one."""
    path = next((study / name for name in (CONFIRMED, BEST) if (study / name).exists()), None)
    if path is None:
        siblings = sorted(str(other.parent) for other in study.parent.glob(f"*/{BEST}"))
        raise ConfigError(
            f"{FROM_STUDY}{study}: no {BEST} in it, which a search writes once a trial is complete;"
            f" allowed: {', '.join(siblings) or 'the folder of a study, as sweeps/NAME'}"
        )
    best = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(best, dict)
    return [str(override) for override in best["overrides"]]

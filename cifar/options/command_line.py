"""What a command line brings along: the settings of resume= and from_study=, and what it trusts.

Hydra parses it and composes the config; `resume` and `from_study` are read from that config, wherever they are given.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar import commands, trust
from cifar.options.config import Config
from cifar.options.former import former_overrides
from cifar.options.hydra_private import Composition, composing, file_content
from cifar.options.option import ConfigError
from cifar.options.shared import key_of, leaves, parse, read_overrides, read_yaml
from cifar.options.start import claim

BEST, CONFIRMED = "best.yaml", "confirmed.yaml"
"""Where a search keeps the settings of its best trial, and of the one that a confirmation chose."""
CONFIG_NAME = "config"
"""The config of the program; another one is of the user (--config-name)."""


@contextmanager
def prepared() -> Iterator[None]:
    """Within the block, Hydra starts with the settings that resume and from_study bring along, in a new directory."""
    with composing(without_trust, (bring, claim)):
        yield


def without_trust(overrides: list[Override]) -> list[Override]:
    """The overrides without trust=, which is granted; it is no setting, so it is recorded nowhere."""
    for override in overrides:
        if key_of(override) == "trust":
            _grant(override)
    return [override for override in overrides if key_of(override) != "trust"]


def _grant(override: Override) -> None:
    """Raises ConfigError where the override is from a file (--experimental-rerun) or lists no modules."""
    names = None if override.is_sweep_override() else override.value()
    if override.input_line not in sys.argv or not isinstance(names, (str, list, type(None))):
        raise ConfigError(f"{override.input_line}: allowed: trust=[my_module], on the command line")
    trust.grant(map(str, [names] if isinstance(names, str) else names or []))


def bring(start: Composition) -> list[Override]:
    """The overrides of a start, with those of the run or study that its config names."""
    resume, study = named(start.config, "resume"), named(start.config, "from_study")
    if start.mode == RunMode.MULTIRUN:
        _check_multirun(start, resume)
    if resume is None and study is None:
        return start.overrides
    return expand(start.overrides, resume, study, _set_by_files(start))


def named(config: DictConfig, key: str) -> str | None:
    """The directory at `key`; None where there is none."""
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from None
    return None if value in (None, "") else str(value)


def _check_multirun(start: Composition, resume: str | None) -> None:
    """Raises ConfigError for a key whose settings no job of a grid or of a search would get."""
    swept = {key_of(override) for override in start.overrides if override.is_sweep_override()}
    if resume is not None or "resume" in swept:
        raise ConfigError(
            f"resume={resume or '...'}: resumes one run, so not with -m (a search resumes by itself); allowed:"
            " python run.py resume=DIR"
        )
    if "from_study" in swept:
        raise ConfigError("from_study: one study for all jobs of a grid or a search; allowed: from_study=DIR")


def expand(
    overrides: list[Override], resume: str | None, study: str | None, keys_of_files: Iterable[str] = ()
) -> list[Override]:
    """The overrides that `resume` and `study` bring along, followed by `overrides`, which win.

    What the files that the command line names set (`keys_of_files`) wins too. `resume` and `study` are among the
    result. A resumed run has the settings of its study already. Raises ConfigError where a directory holds no run, or
    no best trial.
    """
    on_command_line = {key for override in overrides for key, _ in leaves(override)}
    explicit = on_command_line | set(keys_of_files)
    if resume is not None:
        brought = read_run(resume)
        names = {"hydra.run.dir": resume, "resume": resume}
    else:
        brought = read_study(Path(study or ""))
        names = {"from_study": study or ""}
    brought = [override for override in brought if not is_decided(key_of(override), explicit)]
    lines = [commands.override(key, value) for key, value in names.items() if key not in on_command_line]
    return [*brought, *parse(lines, Path(resume or study or "")), *overrides]


def is_decided(key: str, explicit: Collection[str]) -> bool:
    """Whether `explicit` holds the key, or the group or mapping that it belongs to."""
    return any(key == other or key.startswith(f"{other}.") for other in explicit)


def read_run(directory: str) -> list[Override]:
    """The overrides of the run in a directory."""
    file = Path(directory) / ".hydra" / "overrides.yaml"
    if not file.exists():
        raise ConfigError(f"resume={directory}: not a run directory, it has no .hydra/overrides.yaml")
    return [*_former(Path(directory)), *read_overrides(file, read_yaml(file), of_run=True)]


def _former(run: Path) -> list[Override]:
    """What the run in a directory did by default, where an earlier version wrote it and the default is another now."""
    file = run / ".hydra" / "config.yaml"
    recorded = read_yaml(file) if file.exists() else None
    return parse(former_overrides(recorded), file) if isinstance(recorded, dict) else []


def read_study(study: Path) -> list[Override]:
    """The overrides of the confirmed trial of a study, else of its best one."""
    file = next((study / name for name in (CONFIRMED, BEST) if (study / name).exists()), None)
    if file is None:
        siblings = sorted(str(other.parent) for other in study.parent.glob(f"*/{BEST}"))
        raise ConfigError(
            f"from_study={study}: no {BEST} in it, which a search writes once a trial is complete;"
            f" allowed: {', '.join(siblings) or 'the folder of a study, as sweeps/NAME'}"
        )
    best = read_yaml(file)
    overrides = read_overrides(file, best.get("overrides") if isinstance(best, dict) else None, of_run=False)
    return [*_former(study / Path(str(best.get("folder"))).name), *overrides]


def check_study(config: Config, task_overrides: list[str]) -> None:
    """Raises ConfigError where a job of a grid names a study whose settings it does not have.

    An option that is swept, such as an experiment, may name it: that is seen in the job alone.
    """
    if config.from_study is None or config.resume is not None:
        return
    if "from_study" not in map(key_of, parse(task_overrides, Path(config.from_study))):
        raise ConfigError(
            f"from_study={config.from_study}: in an option that is swept; allowed: from_study=DIR on the command line"
        )


def _set_by_files(start: Composition) -> set[str]:
    """The keys that the files set which the command line names: options of groups, experiments, --config-name."""
    hydra = start.config.hydra
    chosen = [(key_of(override), value) for override in start.overrides for _, value in leaves(override)]
    chosen.append(("experiment", hydra.runtime.choices.get("experiment")))
    keys: set[str] = set()
    for group, options in chosen:
        for option in options if isinstance(options, list) else [options]:
            if isinstance(option, str) and "." not in group:
                keys |= _set_by(start.loader, f"{group}/{option}")
    if hydra.job.config_name != CONFIG_NAME:
        keys |= {key for key, _ in _flat(file_content(start.loader, str(hydra.job.config_name))[0])}
    return keys


def _set_by(loader: ConfigLoader, path: str) -> set[str]:
    """The keys that a file sets, the groups of which it chooses options, and what these set in turn."""
    content, choices = file_content(loader, path)
    keys = {key for key, _ in _flat(content)}
    for group, option in choices:
        keys.add(group)
        keys |= _set_by(loader, f"{group}/{option}")
    return keys


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

"""What is taken from a file that somebody else may have written: the overrides of a run or of a study.

Training settings only, by a list. Nothing of Hydra's, no place that is written to, no address: whoever resumes a run
or trains with the settings of a study gives these on the command line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from cifar import overrides
from cifar.options.data import Data
from cifar.options.former import RENAMED_KEYS
from cifar.options.option import ConfigError
from cifar.options.own import FACTORY
from cifar.overrides import is_within, key_of, leaves

GROUPS = ("data", "augment", "model", "optimizer", "scheduler", "transfer")
"""The groups of which every key is taken, unless its value may be a place or an address."""
CHOICES = (*GROUPS, "tracker", "experiment")
"""The groups of which an option may be chosen."""
KEYS = {
    *("epochs", "time", "batch_size", "seed", "test", "tracker.experiment", "tracker.project"),
    *("loss.l2", "loss.label_smoothing", "loss.class_weights", "ema.decay", "early_stopping.patience", "objective"),
    *("precision", "channels_last", "compile", "cuda_graph", "deterministic", "threads"),
}
DEVICE = {"device"}
"""Taken of a run that is resumed, as its results depend on it; not of a study, which may be another machine's."""
READ = {"data.root", "data.fixes", "transfer.weights", "from_run"}
"""Places that are only read."""
PATTERNS = {"data.groups"}
"""Texts that name a column or are a regular expression: nothing is opened by them."""
STUDY = "from_study"
"""Kept of a run, for the record; not of a study. Its settings are among the overrides already."""
OPTION = r"\w[\w.+-]*(/\w[\w.+-]*)*"
PLACE = re.compile(r"[/\\:~]|\$\{[^}]*:")
"""Of a text that may be a place, an address, or a resolver's value."""
PLACE_KEY = re.compile(r"(dir|path|file|url|uri|root|overlay|cfg)s?$")


def parse(lines: list[str], file: Path) -> list[Override]:
    """The overrides in these lines. Raises ConfigError where they are none."""
    try:
        return overrides.parse(lines)
    except HydraException as error:
        raise ConfigError(f"{file}: {str(error).splitlines()[0]}; allowed: what a run or a search wrote") from None


def run_within(study: Path, recorded: str) -> Path:
    """The recorded run directory of a trial in the folder of its study, which may have moved; it need not be there."""
    parts = [part for part in Path(recorded).parts if part not in ("..", "/")]
    tails = (study.joinpath(*parts[-length:]) for length in range(len(parts), 0, -1))
    return next(filter(Path.is_dir, tails), study.joinpath(*parts[-1:]))


def read_yaml(file: Path) -> Any:
    """The content of a YAML file, with interpolations as texts. Raises ConfigError where it cannot be read."""
    try:
        return yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None


def read_overrides(
    file: Path, lines: Any, of_run: bool, without: Collection[str] = (), decided: Collection[str] = ()
) -> list[Override]:
    """The overrides of `lines`, the content of `file`, that are taken; says which are left out, and what is read.

    Nothing is said of the keys in `without`, which are no settings here, nor of those that are `decided`.
    """
    if not (isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        raise ConfigError(f"{file}: holds no list of overrides; allowed: what a run or a search wrote")
    not_settings = {"resume", *without} if of_run else {"resume", STUDY, *without}
    settings = [renamed(override) for override in parse(lines, file) if key_of(override) not in not_settings]
    settings = [override for override in settings if not is_within(key_of(override), decided)]
    source = _source(settings)
    taken = [override for override in settings if _is_taken(override, of_run, source)]
    _report(file, settings, taken)
    return taken


def renamed(override: Override) -> Override:
    """An override of a former key as one of today's. One that is searched stays, as studies know it by that name."""
    key = RENAMED_KEYS.get(key_of(override))
    if key is None or override.is_sweep_override() or override.is_delete():
        return override
    element = override.get_key_element()
    prefix = element[: len(element) - len(element.lstrip("+"))]
    line = str(override.input_line)
    (new,) = parse([f"{prefix}{key}{line[line.index('=') :]}"], Path(line))
    return new


def _report(file: Path, overrides: list[Override], taken: list[Override]) -> None:
    left_out = [str(override.input_line) for override in overrides if override not in taken]
    if left_out:
        say(
            f"{file}: left out {', '.join(left_out)}; only training settings are taken from a file: give a device, a"
            " place or an address on the command line"
        )
    for override in taken:
        for key, value in leaves(override):
            if key in READ and isinstance(value, str) and PLACE.search(value):
                say(f"{key}={value} is taken from {file}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _source(overrides: list[Override]) -> type[Data]:
    """The data source that the overrides choose; the base class where an experiment chooses it."""
    names = [value for override in overrides for key, value in leaves(override) if key in ("data", "data.source")]
    option = Data.options.get(str(names[-1])) if names else None
    return option if option is not None and issubclass(option, Data) else Data


def _is_taken(override: Override, of_run: bool, source: type[Data]) -> bool:
    if override.package is not None or override.is_sweep_override():
        return False
    return all(_is_allowed(key, value, of_run, source) for key, value in leaves(override))


def is_training_setting(key: str, value: Any) -> bool:
    """Whether a recorded setting decides how a run trains, and names no place and no interpolation."""
    texts = value if isinstance(value, list) else [value]
    has_reference = any(isinstance(text, str) and "${" in text for text in texts)
    return key not in READ and not has_reference and _is_allowed(key, value, of_run=True, source=Data)


def _is_allowed(key: str, value: Any, of_run: bool, source: type[Data]) -> bool:
    group, _, name = key.partition(".")
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if isinstance(text, str)]
    if group in GROUPS and name == "factory":
        return all(re.fullmatch(FACTORY, text) for text in texts)  # it is called only where it is trusted
    if key in CHOICES:
        return len(texts) == len(values) and all(re.fullmatch(OPTION, text) for text in texts)
    if key == STUDY and of_run:
        return True
    if key in PATTERNS:
        return not any("${" in text for text in texts)
    if key in READ:
        return not any("${" in text for text in texts) and (key != "data.root" or all(map(source.only_reads, texts)))
    if not (key in KEYS or (of_run and key in DEVICE) or (group in GROUPS and name)):
        return False
    return not (texts and PLACE_KEY.search(key)) and not any(PLACE.search(text) for text in texts)

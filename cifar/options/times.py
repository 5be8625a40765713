"""The setting `time`: how long a run trains. It sets the epochs, so of the two a run has one."""

from __future__ import annotations

import re
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from cifar.formatting import count_of
from cifar.options.hydra_private import Composition
from cifar.options.option import ConfigError
from cifar.overrides import key_of, leaves, parse

EPOCHS, TIME = "epochs", "time"
UNITS = {"s": (1, "second"), "m": (60, "minute"), "h": (3600, "hour")}
"""Seconds, and the word, of each unit."""
PATTERN = re.compile(r"(\d+(?:\.\d+)?)([smh])")
LONGEST = 8760 * 3600
"""A year: more is a mistake."""
ALLOWED = "seconds, minutes or hours above 0 (90s, 10m, 1.5h), a year at most (8760h)"


def seconds_of(text: str) -> float:
    """The seconds of a time, as 90s, 10m or 1.5h. Raises ConfigError for another text."""
    match = PATTERN.fullmatch(text)
    seconds = float(match[1]) * UNITS[match[2]][0] if match else 0.0
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"{TIME}={text[:50]}: not allowed; allowed: {ALLOWED}")
    return seconds


def is_time(value: Any) -> bool:
    """Whether a value is a time."""
    try:
        return isinstance(value, str) and seconds_of(value) > 0
    except ConfigError:
        return False


def in_words(text: str) -> str:
    """A time in words, as 10 minutes."""
    match = PATTERN.fullmatch(text)
    assert match is not None
    number, word = match[1], UNITS[match[2]][1]
    return f"{number} {word}s" if "." in number else count_of(int(number), word)


def check_one(overrides: list[Override]) -> None:
    """Raises ConfigError where a command line gives both epochs and time."""
    lines = {key_of(override): str(override.input_line) for override in overrides if _is_decisive(override)}
    if len(lines) == 2:
        raise ConfigError(
            f"{lines[EPOCHS]} {lines[TIME]}: a time sets the number of epochs; allowed: one of them, epochs=N or"
            f" {TIME}=10m"
        )


def _is_decisive(override: Override) -> bool:
    return key_of(override) in (EPOCHS, TIME) and not override.is_delete() and override.value() is not None


def with_other(overrides: list[Override], of_files: set[str]) -> set[str]:
    """The keys of epochs and time, both, where `overrides` give one of them, or the files whose keys these are."""
    is_decided = any(map(_is_decisive, overrides)) or not of_files.isdisjoint((EPOCHS, TIME))
    return {EPOCHS, TIME} if is_decided else set()


def without_time(overrides: list[Override], config: DictConfig) -> list[Override]:
    """The overrides that take a time back: the `config` has one from a file, and `overrides` give epochs.

    What files the jobs of a grid or a search have is not known where these vary the experiment.
    """
    keys = {key for override in overrides for key, _ in leaves(override)}
    varied = any(key_of(override) == "experiment" and override.is_sweep_override() for override in overrides)
    if EPOCHS not in keys or TIME in keys or (OmegaConf.select(config, TIME) is None and not varied):
        return []
    return parse([f"{TIME}=null"])


def epochs_win(start: Composition) -> list[Override]:
    """The overrides of a start: epochs on the command line replace the time of an experiment, or of another file."""
    added = without_time(start.overrides, start.config)
    return [*start.overrides, *added] if added else start.overrides

"""Settings that a run or a study had from conf/, where these files have been changed since: they are as they were.

The overrides of a run name only what its command line named. The rest is in the record of its settings.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from cifar.formatting import shortened
from cifar.options.augment import with_suited
from cifar.options.former import RENAMED_KEYS, upgrade_settings
from cifar.options.hydra_private import Composition
from cifar.options.left_open import is_left_open
from cifar.options.option import groups
from cifar.options.shared import is_training_setting, parse, read_yaml, run_within
from cifar.options.transfer import with_spelled_out
from cifar.overrides import is_within, to_text
from cifar.results import flatten

LINES_SHOWN = 5
MISSING = object()


def of_run(directory: str) -> dict[str, Any]:
    """The settings of the run in a directory, by full key; empty where it has no record of them."""
    file = Path(directory) / ".hydra" / "config.yaml"
    return _settings(read_yaml(file) if file.exists() else None)


def of_trial(file: Path) -> dict[str, Any]:
    """The settings of the trial in best.yaml or confirmed.yaml beside its parameters, and how it was executed.

    Those of its run where an earlier version wrote the file.
    """
    best = read_yaml(file)
    best = best if isinstance(best, dict) else {}
    if "settings" in best:
        decided = {**(best.get("params") or {}), **(best.get("execution") or {})}
        drawn = {RENAMED_KEYS.get(key, key) for key in decided}
        return {key: value for key, value in _settings(best["settings"]).items() if key not in drawn}
    return of_run(str(run_within(file.parent, str(best.get("folder")))))


def explicit(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a run, with what suits the data in place of null, and a network in place of its short name."""
    return with_spelled_out(with_suited(settings))


def _settings(record: Any) -> dict[str, Any]:
    return dict(flatten(explicit(upgrade_settings(record)))) if isinstance(record, Mapping) else {}


def restored(start: Composition, place: str, record: Mapping[str, Any], decided: Collection[str]) -> list[Override]:
    """The overrides of a start, with those that make its training settings the recorded ones; they are printed.

    Those in `decided`, and below them, are as they are given now.
    """
    names = {f"{name}.{group.key}" for name, group in groups().items()}  # an option is chosen by the overrides
    lines = []
    changes = []
    for key, before in record.items():
        now = _value(start, key)
        is_given = key in names or is_within(key, decided)
        if is_given or is_left_open(key, now) or now in (MISSING, before) or not is_training_setting(key, before):
            continue
        lines.append(f"{key}={to_text(before)}")
        changes.append(f"{key}={before} (conf/ says {now})")
    if not lines:
        return start.overrides
    print(f"{place}: as recorded: {shortened(changes, LINES_SHOWN)}", file=sys.stderr, flush=True)
    return [*start.overrides, *parse(lines, Path(place))]


def _value(start: Composition, key: str) -> Any:
    """The value at a key, unresolved, for null what suits the data; MISSING where there is none."""
    node: Any = OmegaConf.to_container(start.config, resolve=False)
    assert isinstance(node, dict)
    node = explicit(node)
    for name in key.split("."):
        node = node.get(name, MISSING) if isinstance(node, Mapping) else MISSING
    return node

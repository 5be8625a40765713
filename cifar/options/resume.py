"""What may differ between a run and the start that resumes it. The rest is refused before anything is changed.

A setting that may change takes effect from the next epoch: those of the optimizer and of the scheduler that their
options list as `changeable`, those of the loss, epochs, time, early_stopping.patience, and where and how the run is
executed and tracked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar.formatting import format_time
from cifar.options.check import typed
from cifar.options.config import Config
from cifar.options.former import upgrade_settings
from cifar.options.left_open import is_left_open
from cifar.options.option import ConfigError, groups
from cifar.options.shared import read_yaml
from cifar.options.times import seconds_of
from cifar.reporting import EpochMetrics
from cifar.results import flatten, read_metrics, read_result

CHANGEABLE = {
    *("epochs", "time", "test", "resume", "from_study", "cache.dir", "cache.memory_share", "early_stopping.patience"),
    *("loss.l2", "loss.label_smoothing", "loss.class_weights"),
    *("device", "threads", "channels_last", "compile", "cuda_graph", "deterministic"),
}
"""Keys outside the groups that may change."""


def check_resume(config: Config) -> None:
    """Raises ConfigError where the run that config.resume names cannot continue with these settings."""
    if config.resume is None:
        return
    before, now = recorded_settings(config, config.resume), settings_of(config)
    changed = [
        key
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and not is_left_open(key, now.get(key))
    ]
    lines = [f"{key}={now.get(key)}: was {before.get(key)}" for key in changed if not may_change(config, key)]
    if lines:
        more = " ..." if lines[5:] else ""
        raise ConfigError(
            f"{'; '.join(lines[:5])}{more}; a run that is resumed (resume={config.resume}) keeps these; allowed: leave"
            " them out, or start a new run"
        )
    file = Path(config.resume) / "metrics.csv"
    metrics = read_metrics(file) if file.exists() else []
    done = len(metrics)
    if config.time is not None:
        is_at_end = _check_time(config, before.get("time"), metrics)
    elif config.epochs < done:
        raise ConfigError(f"epochs={config.epochs}: {done} epochs of {config.resume} are done; allowed: from {done} on")
    else:
        is_at_end = config.epochs == done
    late = [key for key in changed if _waits_for_epoch(key)]
    if late and is_at_end:
        raise ConfigError(
            f"{late[0]}={now.get(late[0])}: was {before.get(late[0])}, and no epoch is left in which it would take"
            f" effect: all {done} epochs of {config.resume} are done; allowed: epochs=N above {done}, or leave it out"
        )


def _check_time(config: Config, before: str | None, metrics: Sequence[EpochMetrics]) -> bool:
    """Whether the run, with the time `before` and these epochs, is trained to its end.

    Raises ConfigError for a time where the run had none, and for another one where no step, or no time, is left.
    """
    assert config.time is not None
    if before is None:
        raise ConfigError(
            f"time={config.time}: {config.resume} was started with epochs and keeps these; allowed: epochs=N, or a new"
            " run"
        )
    run = Path(config.resume or "")
    result = read_result(run) if (run / "result.json").exists() else {}
    status, planned = result.get("status"), result.get("epochs")  # of a killed run, status is running
    is_at_end = status == "finished" or (status != "running" and planned == len(metrics))
    if config.time != before and is_at_end:
        raise ConfigError(
            f"time={config.time}: was {before}, and {config.resume} is trained to its end; allowed: epochs=N above"
            f" {len(metrics)}, or a new run"
        )
    used = max(result.get("plan", {}).get("seconds", 0.0), sum(epoch.seconds for epoch in metrics))
    if config.time != before and seconds_of(config.time) <= used:
        raise ConfigError(
            f"time={config.time}: was {before}, and {config.resume} has used {format_time(used)}; allowed: a longer"
            " time than that"
        )
    return is_at_end


def _waits_for_epoch(key: str) -> bool:
    """Whether a setting that may change decides only the epochs to come."""
    return key.startswith(("loss.", "optimizer.", "scheduler.")) or key == "transfer.backbone_lr_scale"


def may_change(config: Config, key: str) -> bool:
    """Whether a run that is resumed may have another value of this key."""
    group, _, name = key.partition(".")
    option = getattr(config, group)
    return key in CHANGEABLE or group == "tracker" or (group in groups() and name in option.changeable)


def settings_of(config: Config) -> dict[str, Any]:
    """Every setting by its full key."""
    return dict(flatten(dataclasses.asdict(config)))


def recorded_settings(config: Config, run: str) -> dict[str, Any]:
    """The settings of the run in a directory, by full key, as recorded_config gives them."""
    return settings_of(recorded_config(config, run))


def recorded_config(config: Config, run: str) -> Config:
    """The settings of the run in a directory; those that it did not record are those of `config`.

    All are those where there is no record, or one that cannot be read today.
    """
    file = Path(run) / ".hydra" / "config.yaml"
    recorded = read_yaml(file) if file.exists() else None
    if not isinstance(recorded, dict):
        return config
    try:
        return typed(completed(upgrade_settings(recorded), config))
    except (ConfigError, OmegaConfBaseException):
        return config


def completed(recorded: Mapping[str, Any], config: Config) -> DictConfig:
    """The recorded settings, with today's where there are none; an option that has changed is not completed."""
    known = {field.name for field in dataclasses.fields(Config)}
    today = dataclasses.asdict(config)
    for name, group in groups().items():
        node = recorded.get(name)
        if isinstance(node, Mapping) and node.get(group.key, today[name][group.key]) != today[name][group.key]:
            del today[name]
    kept = {key: value for key, value in recorded.items() if key in known}
    merged = OmegaConf.merge(OmegaConf.create(today), OmegaConf.create(kept))
    assert isinstance(merged, DictConfig)
    return merged

"""Settings that an earlier version wrote, brought up to date: for old studies, run directories and checkpoints.

The one file that knows former import paths and former keys. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOVED_TARGETS = {
    "cifar.resnet.BottleneckResNet": "cifar.models.resnet.BottleneckResNet",
    "cifar.transfer.load_backbone": "cifar.models.pretrained.load_backbone",
    "cifar.optim.plateau": "cifar.training.schedulers.plateau",
    "cifar.optim.cosine": "cifar.training.schedulers.cosine",
    "cifar.optim.onecycle": "cifar.training.schedulers.onecycle",
    "cifar.optim.constant": "cifar.training.schedulers.constant",
    "cifar.tracker.Tracker": "cifar.trackers.base.Tracker",
    "cifar.tracker.TensorBoard": "cifar.trackers.tensorboard.TensorBoard",
    "cifar.tracker.MLflow": "cifar.trackers.mlflow.MLflow",
    "cifar.tracker.WandB": "cifar.trackers.wandb.WandB",
}
"""Former import path of a `_target_` -> today's."""
FORMER_INPUT = {"image_size": 32, "fit": "crop", "val_from": "training_part"}
"""What the settings `data` were before there were these keys."""
FORMER_OF_SOURCE: dict[str, dict[str, Any]] = {"image_folder": {"test_size": 0.15}}
"""And of this source: their folders had parts, for which it means nothing."""
SPLIT_BY_CONTENT = ("image_folder", "arrays", "csv")
"""The values of data.source of which data.split is content today; versions without the key split at random."""
BY_CONTENT = {"split", "unreadable", "calibration_size"}
"""Keys of `data` that came with data.split; not all of them are searched, so one is among the settings of a study."""
FORMER_STEM = {"stem": "auto"}
"""What the settings `model` of a bottleneck ResNet were: of 32 pixels, so it is the CIFAR stem."""
FORMER_FINETUNE = {"frozen_statistics": False}
"""What the settings `transfer` of fine-tuning were."""
RESNET = "cifar.models.resnet.BottleneckResNet"
NEUTRAL = {
    "objective": "accuracy",
    "time": None,
    "from_run": None,
    "loss.label_smoothing": 0.0,
    "loss.class_weights": None,
    "ema.decay": None,
    "early_stopping.patience": None,
    "optimizer.clip_norm": None,
    "scheduler.warmup_epochs": 0.0,
    **{"augment.policy": "crop_flip", "augment.crop": None, "augment.flip": None},
    **{"augment.erase": 0.0, "augment.mixup": 0.0, "augment.cutmix": 0.0},
    "data.folds": None,
    "data.fold": None,
    "data.groups": None,
    "data.split": "random",
    "data.fixes": None,
    "data.unreadable": "error",
    "data.calibration_size": 0,
    "data.check_duplicates": "exact",
}
"""Settings that earlier versions did not have, with the value that means what these did."""
RENAMED_KEYS = {"data.crop": "augment.crop", "data.flip": "augment.flip"}
"""Former key -> today's. conf/config.yaml has the former ones too, as null, so that Hydra composes old commands."""


def upgrade_target(target: str) -> str:
    """Today's import path of a `_target_`; one that has not moved is returned as it is."""
    return MOVED_TARGETS.get(target, target)


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings, brought up to date at any depth.

    Every `_target_` has today's import path, every key its present name, and keys that there were not have the value of
    what was done then.

    A former key stays where it has another value than today's.
    """
    upgraded = {key: _completed(key, _upgrade(key, value)) for key, value in settings.items()}
    return _renamed(with_later_settings(upgraded) if is_whole(settings) else upgraded)


def is_whole(settings: Mapping[str, Any]) -> bool:
    """Whether these are all settings of a run, perhaps without those that are searched, and not a part of them."""
    return not settings.keys().isdisjoint(("loss", "precision"))


def _completed(key: str, value: Any) -> Any:
    """The settings of a group, with the keys that earlier versions did not have."""
    if key == "data" and isinstance(value, Mapping) and "source" in value:
        return FORMER_INPUT | FORMER_OF_SOURCE.get(value["source"], {}) | dict(value)
    if key == "model" and isinstance(value, Mapping) and value.get("_target_") == RESNET and "depths" in value:
        return FORMER_STEM | dict(value)
    if key == "transfer" and isinstance(value, Mapping) and value.get("mode") == "finetune":
        return FORMER_FINETUNE | dict(value)
    return value


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings, or a part of them, with today's keys."""
    renamed = dict(settings)
    for former, key in RENAMED_KEYS.items():
        (group, name), (new_group, new_name) = former.split("."), key.split(".")
        node = renamed.get(group)
        if not isinstance(node, Mapping) or name not in node:
            continue
        new_node = renamed.get(new_group) or {}
        value, new_value = node[name], new_node.get(new_name)
        if None in (value, new_value) or value == new_value:
            renamed[group] = {other: node[other] for other in node if other != name}
        if value is not None and new_value is None:
            renamed[new_group] = {**new_node, new_name: value}
    return renamed


def former_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Overrides for settings that these, which an earlier version wrote, lack, and whose default is another today."""
    data = settings.get("data")
    if not isinstance(data, Mapping) or BY_CONTENT & data.keys() or data.get("source") not in SPLIT_BY_CONTENT:
        return []
    first = data["source"] == "image_folder" and not FORMER_INPUT.keys() & data.keys()
    keys = ("image_size", "val_from") if first else ()
    return [*(f"data.{key}={FORMER_INPUT[key]}" for key in keys), "data.split=random"]


def _upgrade(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return upgrade_settings(value)
    if isinstance(value, list):
        return [_upgrade("", item) for item in value]
    if key == "_target_" and isinstance(value, str):
        return upgrade_target(value)
    return value


def with_later_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the settings of a run, with those that its version did not have yet."""
    completed = dict(settings)
    for key, value in NEUTRAL.items():
        group, _, name = key.rpartition(".")
        if group in ("data", "optimizer", "scheduler") and group not in completed:
            continue
        node = completed.get(group, {})
        if not group:
            completed.setdefault(name, value)
        elif isinstance(node, Mapping):  # else a wrong value, which the check will name
            completed[group] = {name: value} | dict(node)
    return completed


def without_neutral(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A copy of nested settings without those of NEUTRAL that have the value there.

    So the settings of two versions can be compared where some are left out, as those that a search draws. Below a key
    such as "optimizer=adam" settings begin anew: what an option adds, as a study keeps it.
    """
    kept = {}
    for key, value in settings.items():
        full = prefix + key
        if isinstance(value, Mapping):
            below = without_neutral(value, "" if "=" in key else f"{full}.")
            if below or not value:
                kept[key] = below
        elif full not in NEUTRAL or value != NEUTRAL[full]:
            kept[key] = value
    return kept

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
RENAMED_KEYS = {"data.crop": "augment.crop", "data.flip": "augment.flip"}
"""Former key -> today's. conf/config.yaml has the former ones too, as null, so that Hydra composes old commands."""
FORMER_AUGMENT = {"policy": "crop_flip", "crop": None, "flip": None, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0}
"""What the group `augment` says of a run that was made before there was one."""


def upgrade_target(target: str) -> str:
    """Today's import path of a `_target_`; one that has not moved is returned as it is."""
    return MOVED_TARGETS.get(target, target)


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings with today's keys, and with today's import path in every `_target_`, at any depth.

    A former key stays where it has another value than today's.
    """
    moved = {key: _upgrade(key, value) for key, value in settings.items()}
    return _renamed(_with_augment(moved))


def _with_augment(settings: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run (they have `loss`), with those of augmentation."""
    if "loss" not in settings or "augment" in settings:
        return settings
    return {**settings, "augment": dict(FORMER_AUGMENT)}


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


def _upgrade(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return upgrade_settings(value)
    if isinstance(value, list):
        return [_upgrade("", item) for item in value]
    if key == "_target_" and isinstance(value, str):
        return upgrade_target(value)
    return value

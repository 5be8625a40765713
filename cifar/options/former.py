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


def upgrade_target(target: str) -> str:
    """Today's import path of a `_target_`; one that has not moved is returned as it is."""
    return MOVED_TARGETS.get(target, target)


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings in which every `_target_`, at any depth, has today's import path."""
    return {key: _upgrade(key, value) for key, value in settings.items()}


def _upgrade(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return upgrade_settings(value)
    if isinstance(value, list):
        return [_upgrade("", item) for item in value]
    if key == "_target_" and isinstance(value, str):
        return upgrade_target(value)
    return value

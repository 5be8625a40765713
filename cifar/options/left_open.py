"""Settings that may be auto: a run decides them itself, once it knows its images (cifar.auto)."""

from __future__ import annotations

AUTO = "auto"
WIDTH, POLICY, DECAY = "model.width", "augment.policy", "optimizer.weight_decay"


def is_left_open(key: str, value: object) -> bool:
    """Whether a run that continues or repeats another one has in this setting what that one decided."""
    return key in (WIDTH, POLICY, DECAY) and value == AUTO

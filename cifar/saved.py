"""What the content of a best.pt says of its model, whichever version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cifar.data.preprocessing import InputFormat
from cifar.models.preprocess import Preprocess
from cifar.options.former import upgrade_settings


def upgraded(best: Mapping[str, Any]) -> dict[str, Any]:
    """The same content with its settings brought up to date. Raises KeyError where it has none."""
    return {**best, **{key: upgrade_settings(best[key]) for key in ("settings", "transfer")}}


def input_format(best: Mapping[str, Any]) -> InputFormat:
    """What image files are brought to for its model; earlier versions knew one format."""
    return InputFormat(**best.get("input", {}))


def preprocess(best: Mapping[str, Any]) -> Preprocess:
    """Of its pretrained backbone."""
    return Preprocess(**best["transfer"]["preprocess"])

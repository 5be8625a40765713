"""Networks from their settings: a `_target_` that is allowed, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from cifar.options.option import ConfigError, whitelist

BUILD_ERRORS = (InstantiationException, ImportError, TypeError, ValueError, RuntimeError)
"""What building a network raises where the settings do not fit it."""


def build_model(settings: Mapping[str, object], classes: int) -> nn.Module:
    """The model with a logit for each class. Raises ConfigError where its settings do not fit it."""
    try:
        model: nn.Module = instantiate(dict(settings), num_classes=classes, _execution_whitelist_=whitelist())
    except BUILD_ERRORS as error:
        raise ConfigError(f"model: {settings} cannot be built: {one_line(error)}") from error
    return model


def one_line(error: Exception) -> str:
    """The message of an error, in one line."""
    return " ".join(str(error).split())

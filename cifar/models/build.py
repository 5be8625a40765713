"""Networks from their settings: a `_target_` that is allowed, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from cifar import trust
from cifar.options.option import ConfigError, whitelist
from cifar.options.own import call

BUILD_ERRORS = (InstantiationException, ImportError, TypeError, ValueError, RuntimeError)
"""What building a network raises where the settings do not fit it."""


def build_model(settings: Mapping[str, object], classes: int) -> nn.Module:
    """The model with a logit for each class. Raises ConfigError where its settings do not fit it."""
    allowed = (*whitelist(), *trust.trusted())
    try:
        model: nn.Module = instantiate(dict(settings), num_classes=classes, _execution_whitelist_=allowed)
    except BUILD_ERRORS as error:
        raise ConfigError(f"model: {settings} cannot be built: {one_line(error)}") from error
    return model


def own_model(factory: str, kwargs: Mapping[str, Any], num_classes: int) -> nn.Module:
    """The network of model=own. Raises ConfigError where the factory does not make one of these arguments."""
    key = "model.factory"
    model = call(key, factory, num_classes=num_classes, **kwargs)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{key}={factory}: returned {type(model).__name__}; allowed: what returns a torch.nn.Module")
    return model


def one_line(error: Exception) -> str:
    """The message of an error, in one line."""
    return " ".join(str(error).split())

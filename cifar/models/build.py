"""Networks from their settings: a `_target_` that is allowed, and its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from cifar import trust
from cifar.options.option import ConfigError, whitelist
from cifar.options.own import OwnModel, call

BUILD_ERRORS = (InstantiationException, ImportError, TypeError, ValueError, RuntimeError, OSError)
"""What building a network raises where the settings do not fit it, or where it downloads something and cannot."""


def build_model(settings: Mapping[str, object], classes: int) -> nn.Module:
    """The model with a logit for each class. Raises ConfigError where its settings do not fit it."""
    try:
        if settings["_target_"] == OwnModel._target_:  # Hydra refuses networks whose class it may not call
            return own_model(num_classes=classes, **{key: settings[key] for key in ("factory", "kwargs")})
        arguments: dict[str, Any] = {
            "num_classes": classes,
            **_without_download(settings),
            "_execution_whitelist_": (*whitelist(), *trust.trusted()),
        }
        model: nn.Module = instantiate(dict(settings), **arguments)
    except BUILD_ERRORS as error:
        raise ConfigError(f"model: {settings} cannot be built: {one_line(error)}") from error
    return model


def _without_download(settings: Mapping[str, object]) -> dict[str, None]:
    """What keeps a network of torchvision from a download: those for segmentation have a pretrained backbone else.

    Raises ValueError where torchvision has no network of that name.
    """
    if settings.get("_target_") != "torchvision.models.get_model":
        return {}
    from torchvision.models import get_model_builder  # not before it is needed

    parameters = inspect.signature(get_model_builder(str(settings.get("name")))).parameters
    return {"weights_backbone": None} if "weights_backbone" in parameters and "weights_backbone" not in settings else {}


def own_model(factory: Any, kwargs: Any, num_classes: int) -> nn.Module:
    """The network of model=own. Raises ConfigError where the factory does not make one of these arguments."""
    key = "model.factory"
    model = call(key, factory, num_classes=num_classes, **kwargs)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{key}={factory}: returned {type(model).__name__}; allowed: what returns a torch.nn.Module")
    return model


def one_line(error: Exception) -> str:
    """The message of an error, in one line."""
    return " ".join(str(error).split())

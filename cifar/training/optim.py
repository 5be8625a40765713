"""Optimizers, their parameter groups, and the L2 term of the loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from cifar.options.option import ConfigError, whitelist
from cifar.options.own import call

BeforeUpdate = Callable[[], object]
"""Called after the gradients of a step are known, before the optimizer uses them."""
ParameterGroup = dict[str, Any]
"""A parameter group of torch.optim: "params" and its settings, as "weight_decay"."""


def build_optimizer(arguments: Mapping[str, object], groups: list[ParameterGroup]) -> Optimizer:
    """The optimizer of a `_target_` and its other arguments, over the parameter groups `groups`."""
    # Lists as plain lists: a checkpoint with OmegaConf's (betas, in NAdam and RAdam) could not be loaded again.
    settings = {**arguments, "_convert_": "all", "_partial_": True}
    build: Callable[[list[ParameterGroup]], Optimizer] = instantiate(settings, _execution_whitelist_=whitelist())
    return build(groups)


def own_optimizer(
    groups: list[ParameterGroup], factory: str, kwargs: Mapping[str, Any], lr: float, weight_decay: float
) -> Optimizer:
    """The optimizer of optimizer=own. Raises ConfigError where the factory does not make one of these arguments."""
    key = "optimizer.factory"
    optimizer = call(key, factory, groups, lr=lr, weight_decay=weight_decay, **kwargs)
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"{key}={factory}: returned {type(optimizer).__name__}; allowed: a torch.optim.Optimizer")
    return optimizer


def decayed_parameters(model: nn.Module, norms_and_biases: bool) -> list[nn.Parameter]:
    """The trainable parameters to which weight decay and the L2 term apply.

    Norms and biases are the parameters of fewer than two dimensions.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [p for p in trainable if norms_and_biases or p.ndim >= 2]


def parameter_groups(model: nn.Module, weight_decay: float, norms_and_biases: bool) -> list[ParameterGroup]:
    """All trainable parameters of `model`: a group with weight decay, and one without if there are such parameters."""
    decayed = decayed_parameters(model, norms_and_biases)
    decayed_ids = {id(p) for p in decayed}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in decayed_ids]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def clipping(optimizer: Optimizer, norm: float | None) -> BeforeUpdate:
    """Scales the gradients of all parameters, as one vector, to the length `norm` where they are longer.

    It waits for no device, and leaves the gradients where they are in memory, as a CUDA graph needs it.
    """
    if norm is None:
        return no_clipping
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return partial(nn.utils.clip_grad_norm_, parameters, norm)


def no_clipping() -> None:
    """Leaves the gradients as they are."""


def hyperparameters(optimizer: Optimizer) -> list[ParameterGroup]:
    """A copy of everything in the parameter groups but the parameters."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def reset_hyperparameters(optimizer: Optimizer, configured: list[ParameterGroup]) -> None:
    """Give the parameter groups the `configured` values and no others, as before a scheduler changed these."""
    for group, values in zip(optimizer.param_groups, configured, strict=True):
        parameters = group["params"]
        group.clear()
        group.update({**values, "params": parameters})


def set_hyperparameters(optimizer: Optimizer, configured: list[ParameterGroup], changed: Collection[str]) -> None:
    """Put those of the `configured` values into the parameter groups whose full key, as "optimizer.momentum", changed.

    The learning rate is the schedule's.
    """
    names = {key.removeprefix("optimizer.") for key in changed if key.startswith("optimizer.")} - {"lr"}
    for group, values in zip(optimizer.param_groups, configured, strict=True):
        group.update({name: values[name] for name in names & values.keys()})


def l2_term(parameters: Iterable[Tensor], l2: float) -> Tensor | float:
    """l2 / 2 * ||w||^2 over `parameters`. Its gradient, l2 * w, equals what SGD's weight_decay=l2 adds."""
    if l2 == 0:
        return 0.0
    squares = torch.stack([p.square().sum() for p in parameters])
    return l2 / 2 * squares.sum()

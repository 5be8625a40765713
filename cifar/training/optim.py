"""Parameter groups and the L2 term."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def decayed_parameters(model: nn.Module, norms_and_biases: bool) -> list[nn.Parameter]:
    """The trained parameters to which weight decay and the L2 term apply.

    Norms and biases are the parameters of fewer than two dimensions.
    """
    return [p for p in model.parameters() if p.requires_grad and (norms_and_biases or p.ndim >= 2)]


def parameter_groups(model: nn.Module, weight_decay: float, norms_and_biases: bool) -> list[dict[str, Any]]:
    """All trained parameters of `model`: a group with weight decay and, where there are any, one without."""
    decayed = decayed_parameters(model, norms_and_biases)
    chosen = set(map(id, decayed))
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def l2_term(parameters: Iterable[Tensor], l2: float) -> Tensor | float:
    """lambda/2 * ||w||^2 over `parameters`: its gradient, lambda * w, is what SGD's weight_decay=lambda adds."""
    return l2 / 2 * torch.stack([p.square().sum() for p in parameters]).sum() if l2 else 0.0

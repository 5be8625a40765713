"""An exponential moving average of the weights, which is validated and kept in best.pt in place of the weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

START = 10
"""After n steps the decay is at most (1 + n) / (START + n)."""


class NoAverage:
    """The weights are measured as they are: a no-op."""

    def measured(self, model: nn.Module) -> nn.Module:
        """The network that is validated, and whose weights best.pt keeps, of a run that trains `model`."""
        return model

    def update(self) -> None:
        """Called after every step of the optimizer."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError for a state of a run that kept no average where this one does."""


class MovingAverage(NoAverage):
    """average = decay * average + (1 - decay) * weights after every step.

    In the first steps the decay is (1 + n) / (10 + n) after n steps, until that exceeds `decay` (as TensorFlow's
    ExponentialMovingAverage): otherwise a short run would be measured on its random first weights.

    Running statistics (batch norm) are averaged in the same way. Those of the trained network describe the activations
    of its latest weights, not of the average; averaged over the same steps, they describe the network that is measured,
    without another pass over the training images, as torch.optim.swa_utils.update_bn makes one. Counts are copied.

    torch.optim.swa_utils.AveragedModel keeps the number of updates in a tensor, for which every step would wait for a
    GPU.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.averaged = deepcopy(model).requires_grad_(False)
        self.updates = 0
        pairs = [*zip(_tensors(self.averaged), _tensors(model), strict=True)]
        self.numbers = [pair for pair in pairs if pair[0].is_floating_point()]
        self.counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    def measured(self, model: nn.Module) -> nn.Module:
        return self.averaged

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.updates) / (START + self.updates)) if self.updates else 0.0
        torch._foreach_lerp_(*_lists(self.numbers), 1 - decay)
        if self.counts:
            torch._foreach_copy_(*_lists(self.counts))
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.averaged.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged.load_state_dict(state["model"])
        self.updates = state["updates"]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _lists(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [average for average, _ in pairs], [value for _, value in pairs]


def build_average(model: nn.Module, decay: float | None) -> NoAverage:
    """The average of the weights of `model`; without a decay none is kept."""
    return NoAverage() if decay is None else MovingAverage(model, decay)

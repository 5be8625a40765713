"""An exponential moving average of the weights, which is validated and kept in best.pt in place of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

START = 10
"""After n steps the decay is at most (1 + n) / (START + n)."""


class NoAverage:
    """The weights are measured as they are: a no-op."""

    def measured(self, model: nn.Module) -> nn.Module:
        """The network that is validated, and whose weights best.pt keeps, of a run that trains `model`."""
        return model

    def update(self, model: nn.Module) -> None:
        """Called after every step of the optimizer."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError for a state of a run that kept no average where this one does."""


class MovingAverage(NoAverage):
    """average = decay * average + (1 - decay) * weights after every step, by PyTorch's AveragedModel.

    In the first steps the decay is (1 + n) / (10 + n) after n steps, until that exceeds `decay` (as TensorFlow's
    ExponentialMovingAverage): otherwise a short run would be measured on its random first weights.

    Running statistics (batch norm) are averaged in the same way. Those of the trained network describe the activations
    of its latest weights, not of the average; averaged over the same steps, they describe the network that is measured,
    without another pass over the training images, as torch.optim.swa_utils.update_bn makes one. Counts are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.averaged = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)
        self.averaged.requires_grad_(False)
        self.updates = 0

    def measured(self, model: nn.Module) -> nn.Module:
        network: nn.Module = self.averaged.module
        return network

    def update(self, model: nn.Module) -> None:
        self.averaged.update_parameters(model)
        self.updates += 1

    @torch.no_grad()
    def _average(self, averages: Any, values: Any, updates: Tensor | int) -> None:
        """Tensors of one type; `updates` is on the device, so the number that is kept here is taken."""
        decay = min(self.decay, (1 + self.updates) / (START + self.updates))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - decay)
        else:
            torch._foreach_copy_(averages, values)

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.averaged.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged.module.load_state_dict(state["model"])
        self.updates = state["updates"]
        self.averaged.n_averaged.fill_(self.updates)


def build_average(model: nn.Module, decay: float | None) -> NoAverage:
    """The average of the weights of `model`; without a decay none is kept."""
    return NoAverage() if decay is None else MovingAverage(model, decay)

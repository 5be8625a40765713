"""A forward pass before training: does a network take the batches that it will get, and give a logit for each class?

It runs on a copy of the network without memory (PyTorch's device "meta"), which takes milliseconds whatever the size.
A network that cannot run there, as where its forward depends on values, runs on the CPU on a small batch.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cifar.formatting import first_line
from cifar.options.option import ConfigError

SMALL_BATCH = 2
"""Rows at most in a batch on the CPU."""


@dataclass(frozen=True)
class DryRun:
    """What a network is checked on: `rows` training images of `shape`, in batches of `batch_size`.

    `setting` is the key that chooses the network.
    """

    model: nn.Module
    setting: str
    shape: tuple[int, ...]
    classes: int
    rows: int
    batch_size: int

    def check(self) -> None:
        """Raises ConfigError where the network fails on a full batch or on the last one, or in evaluation.

        The network and all random generators stay as they are.
        """
        full = min(self.batch_size, self.rows)
        last = self.rows % full or full
        with unchanged_generators():
            problem = self._problem(full, training=True)
            if problem and (full > 1 or self._problem(2, training=True)):
                raise self._network_error("train on", full, problem)
            problem = problem or self._problem(last, training=True)
            if problem:
                raise self._batch_error(last, problem)
            problem = self._problem(full, training=False)
            if problem:
                raise self._network_error("be evaluated on", full, problem)

    def _problem(self, size: int, training: bool) -> str | None:
        """What is wrong with the network on a batch of `size`; None where nothing is known to be."""
        problem = None
        for device, most in (("meta", size), ("cpu", min(size, SMALL_BATCH))):
            try:
                network = copy_without_memory(self.model) if device == "meta" else copy.deepcopy(self.model).cpu()
            except Exception:  # whether a network can be copied says nothing of its forward
                problem = None
                continue
            inputs = torch.zeros(most, *self.shape, device=device)
            try:
                with torch.no_grad():
                    return _output_problem(network.train(training)(inputs), (most, self.classes))
            except Exception as error:  # a forward may raise anything, and on "meta" for no fault of the network
                problem = first_line(error)
        return problem

    def _network_error(self, action: str, size: int, problem: str) -> ConfigError:
        return ConfigError(
            f"{self.setting}: {type(self.model).__name__} cannot {action} a batch ({size},"
            f" {', '.join(map(str, self.shape))}): {problem}; allowed: a network that gives a tensor ({size},"
            f" {self.classes}) for it, a logit for each class; mend it, choose another one, as model=resnet14, or"
            " enlarge the images, with transfer=finetune transfer.image_size=224"
        )

    def _batch_error(self, last: int, problem: str) -> ConfigError:
        smaller, larger = range(self.batch_size - 1, last, -1), range(self.batch_size + 1, self.rows + 1)
        fitting = (size for size in (*smaller, *larger) if size > last and not 0 < self.rows % size <= last)
        advice = f", as batch_size={size}" if (size := next(fitting, None)) else ""
        return ConfigError(
            f"batch_size={self.batch_size}: the last batch of an epoch has {last} of {self.rows} training images, and"
            f" {type(self.model).__name__} cannot train on it: {problem}; allowed: a batch size that leaves more in the"
            f" last batch{advice}; or another number of images, with data.limit or data.val_size"
        )


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """A block that leaves the random generators of Python, NumPy and PyTorch's CPU as they were."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def copy_without_memory(model: nn.Module) -> nn.Module:
    """A copy on the device "meta"; the tensors are not copied first."""
    replaced: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        replaced[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(model, replaced)


def _output_problem(output: object, expected: tuple[int, int]) -> str | None:
    """What is wrong with the output of a network, which should be a tensor of the shape `expected`; None: nothing."""
    if not isinstance(output, Tensor):
        return f"it gives a {type(output).__name__}, not a tensor"
    if output.shape != expected:
        return f"it gives a tensor {tuple(output.shape)}, not {expected}"
    return None

"""What keeps runs apart that take turns in one process: CUDA streams, and torch's global random generators.

What else torch has of one process is the same for all runs of a sweep, or is as usual between two steps.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

_idle = defaultdict[torch.device, list[torch.cuda.Stream]](list)
"""Streams that no run has now: torch has 32, and no two living graphs of different runs may share one.

(A graph that dies takes along cuBLAS's memory of the stream it was captured on: pytorch/pytorch issue 193402.)
"""


class _Cuda(NamedTuple):
    """What is current: of the process the device; of one device the stream, and the state of its generator.

    The state is an object of its own, and not a value set and reset: graphs that are captured with it read their seeds
    from it on the device.
    """

    device: int
    stream: torch.cuda.Stream
    random: torch.Generator

    @classmethod
    def of(cls, device: torch.device) -> _Cuda:
        stream = torch.cuda.current_stream(device)
        return cls(torch.cuda.current_device(), stream, _generator(stream).graphsafe_get_state())

    @classmethod
    def new(cls, device: torch.device) -> _Cuda:
        stream = _idle[device].pop() if _idle[device] else torch.cuda.Stream(device)
        return cls(stream.device.index, stream, _generator(stream).clone_state())

    def set(self) -> None:
        torch.cuda.set_stream(self.stream)
        _generator(self.stream).graphsafe_set_state(self.random)
        torch.cuda.set_device(self.device)


def _generator(stream: torch.cuda.Stream) -> torch.Generator:
    return torch.cuda.default_generators[stream.device.index]


class _State(NamedTuple):
    """What is current: the state of the CPU's generator, and what there is of CUDA."""

    random: Tensor
    cuda: _Cuda | None

    @classmethod
    def of(cls, device: torch.device) -> _State:
        return cls(torch.get_rng_state(), _Cuda.of(device) if device.type == "cuda" else None)

    def set(self) -> None:
        torch.set_rng_state(self.random)
        if self.cuda:
            self.cuda.set()


class Isolation:
    """Enter it to run with torch's global generators to oneself, on CUDA on a stream of one's own too.

    What earlier runs left is destroyed first, for the graphs of one may have had the same stream. All work is done when
    this is left, so nothing that it uses is freed too early.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> Isolation:
        self._outside = _State.of(self.device)
        self._cuda = None
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            self._cuda = _Cuda.new(self.device)
            self._cuda.set()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._cuda:
                self._cuda.stream.synchronize()
                _idle[self.device].append(self._cuda.stream)
        finally:
            self._outside.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Others may train in here, isolated too."""
        own = _State.of(self.device)
        self._outside.set()
        try:
            yield
        finally:
            own.set()

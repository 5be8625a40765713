"""Isolation of runs that share a process: each has a private CUDA stream and private random generators.

PyTorch's other global state is the same for all runs of a sweep, or is back to normal between two steps.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

_free_streams = defaultdict[torch.device, list[torch.cuda.Stream]](list)
"""Streams that no run uses now: PyTorch has 32, and no two living graphs of different runs may share one.

(When a graph is destroyed, it destroys cuBLAS's memory of its capture stream too: pytorch/pytorch issue 193402.)
"""


class _CudaState(NamedTuple):
    """The current CUDA device of the process, and one device's current stream and random generator state.

    `random` is a separate state object, and not a value that is read and written back: captured graphs read their seeds
    from that object on the device.
    """

    device: int
    stream: torch.cuda.Stream
    random: torch.Generator

    @classmethod
    def current(cls, device: torch.device) -> _CudaState:
        stream = torch.cuda.current_stream(device)
        return cls(torch.cuda.current_device(), stream, _generator(stream).graphsafe_get_state())

    @classmethod
    def new(cls, device: torch.device) -> _CudaState:
        free = _free_streams[device]
        stream = free.pop() if free else torch.cuda.Stream(device)
        return cls(stream.device.index, stream, _generator(stream).clone_state())

    def set(self) -> None:
        """Make this the current state."""
        torch.cuda.set_stream(self.stream)
        _generator(self.stream).graphsafe_set_state(self.random)
        torch.cuda.set_device(self.device)


def _generator(stream: torch.cuda.Stream) -> torch.Generator:
    return torch.cuda.default_generators[stream.device.index]


class _State(NamedTuple):
    """The state of the CPU's random generator, and the CUDA state for a run on a CUDA device."""

    random: Tensor
    cuda: _CudaState | None

    @classmethod
    def current(cls, device: torch.device) -> _State:
        return cls(torch.get_rng_state(), _CudaState.current(device) if device.type == "cuda" else None)

    def set(self) -> None:
        """Make this the current state."""
        torch.set_rng_state(self.random)
        if self.cuda:
            self.cuda.set()


class Isolation:
    """A context in which one run trains: it does not share PyTorch's random generators, nor a CUDA stream.

    On entry, what earlier runs left behind is destroyed: one of their graphs may have used the same stream. On exit,
    all work on the stream is finished first, so nothing that it uses is freed too early.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> Isolation:
        self._outside = _State.current(self.device)
        self._cuda = None
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            self._cuda = _CudaState.new(self.device)
            self._cuda.set()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._cuda:
                self._cuda.stream.synchronize()
                _free_streams[self.device].append(self._cuda.stream)
        finally:
            self._outside.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Restore the state outside meanwhile, so that other isolated runs can train inside this block."""
        inside = _State.current(self.device)
        self._outside.set()
        try:
            yield
        finally:
            inside.set()

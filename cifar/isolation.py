"""What keeps runs apart that take turns in one process: CUDA streams, and torch's global random generators.

What else torch has of one process is the same for all runs of a sweep; grad mode, autocast and the current stream are
each thread's own.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@cache
def _stream(device: torch.device, thread: int) -> torch.cuda.Stream:
    """One for each thread, kept: torch has 32 of them, and no two living graphs of different runs may share one.

    (A graph that dies takes along cuBLAS's memory of the stream it was captured on: pytorch/pytorch issue 193402.)
    """
    return torch.cuda.Stream(device)


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """A run on a stream and, on CUDA, a generator state of its own; on a CPU nothing.

    What earlier runs left is destroyed first, for the graphs of this thread's had the same stream. All work is done
    when this ends, so nothing that it uses is freed too early. The generator's state is an object of its own, and not
    a value set and reset: graphs that are captured with it read their seeds from it on the device.
    """
    if device.type != "cuda":
        yield
        return
    gc.collect()
    torch.cuda.empty_cache()
    with torch.cuda.stream(_stream(device, threading.get_ident())):
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        before = generator.graphsafe_get_state()
        generator.graphsafe_set_state(generator.clone_state())
        try:
            yield
        finally:
            torch.cuda.current_stream().synchronize()
            generator.graphsafe_set_state(before)


@contextmanager
def kept_random(device: torch.device) -> Iterator[None]:
    """Others may train in here, isolated: torch's global generators, the CPU's and `device`'s, are then as before."""
    state = torch.get_rng_state()
    if device.type != "cuda":
        yield
    else:
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        own = generator.graphsafe_get_state()
        yield
        generator.graphsafe_set_state(own)
    torch.set_rng_state(state)

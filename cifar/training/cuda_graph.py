"""CUDA graphs: a computation is captured once and replayed for every batch."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cifar.errors import UserError
from cifar.training.step import Compute

log = logging.getLogger(__name__)
WARM_UP = 3
"""Runs before a capture, as in PyTorch's notes on CUDA graphs: they choose the kernels and load the libraries."""


class CaptureError(UserError):
    """A model that cannot be captured as a CUDA graph, for this reason."""

    def __init__(self, reason: str) -> None:
        self.reason = f"the model cannot be captured as a CUDA graph ({reason})"
        super().__init__(f"cuda_graph=true: {self.reason}; allowed: cuda_graph=auto, cuda_graph=false")


def cuda_graph(compute: Compute, model: nn.Module) -> Compute:
    """Capture `compute` on the current stream, which must not be the default one, and return its replay.

    The gradients that a captured step computes lie in the graph's memory, and every replay overwrites them.
    """
    warm_up(compute, model)
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    try:
        with _no_garbage_collection(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = compute()
    except RuntimeError as error:
        cause = error.__context__ or error  # to end a failed capture raises too, and that error hides the cause
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise CaptureError(reason) from cause

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay


def cuda_graph_or_eager(compute: Compute, model: nn.Module) -> Compute:
    """As `cuda_graph`; a model that cannot be captured is computed step by step, and a warning says so."""
    try:
        return cuda_graph(compute, model)
    except CaptureError as error:
        log.warning("%s; cuda_graph=auto: its steps are launched one by one, which is slower", error.reason)
        return compute


def warm_up(compute: Compute, model: nn.Module) -> None:
    """Run `compute` WARM_UP times, then restore buffers, gradients and random generators."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(devices):
        for _ in range(WARM_UP):
            compute()
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    for parameter, gradient in gradients:
        parameter.grad = gradient


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Turn the garbage collector off: destroying objects (an earlier run's graph, say) may break a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

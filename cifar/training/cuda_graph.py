"""CUDA graphs: a computation is captured once and replayed for every batch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cifar.errors import UserError
from cifar.training.step import Compute

WARM_UP = 3
"""Runs before a capture, as PyTorch's notes on CUDA graphs have it: kernels are chosen and libraries loaded by then."""


class CaptureError(UserError):
    """A model that cannot become a CUDA graph."""


def cuda_graph(compute: Compute, model: nn.Module) -> Compute:
    """Replays what `compute` does, captured once on the current stream, which must not be the default one.

    The gradients that a captured step makes lie in the graph's own memory, and every replay writes them anew.
    """
    warm_up(compute, model)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with _nothing_collected(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = compute()
    except RuntimeError as error:
        cause = error.__context__ or error  # ending a capture that has failed fails too
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise CaptureError(f"the model cannot become a CUDA graph ({reason}); allowed: cuda_graph=false") from cause

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return outputs

    return replay


def warm_up(compute: Compute, model: nn.Module) -> None:
    """Run `compute` a few times; buffers, gradients and random generators are as before when this returns."""
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
def _nothing_collected() -> Iterator[None]:
    """No garbage collection: what it would destroy (an earlier run's graph, say) may break a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

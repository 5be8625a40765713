"""A core for each of PyTorch's CPU threads, so that another busy process costs little."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

TASKS = Path("/proc/self/task")
"""A directory for each thread of this process, named by its number."""
PARALLEL = 2**20
"""Elements of a tensor that all threads sum together."""


def pin_team() -> None:
    """Bind the threads of the OpenMP team to a core each, except the calling one; a no-op but on Linux.

    Only where there are as many as cores: with fewer, several processes would choose the same ones. Call it before
    anything is computed, as it tells the threads of the team from others by starting them.
    """
    if not _is_supported():
        return
    before = _tasks()
    torch.ones(PARALLEL).sum()
    team = sorted(_tasks() - before)  # empty where an earlier run of this process started them
    _, *cores = sorted(os.sched_getaffinity(0))
    if len(team) == len(cores):
        for task, core in zip(team, cores, strict=True):
            os.sched_setaffinity(task, {core})


@contextmanager
def pinned() -> Iterator[None]:
    """Within the block the calling thread has the core that the team, where it is bound, leaves to it.

    Beside another busy process the kernel would put two threads of the team on one core, where one spins until the
    other has computed: `python -m benchmarks busy`. Not for longer than training, as threads and processes that are
    started here have this core only.
    """
    cores = os.sched_getaffinity(0) if _is_supported() else set()
    is_bound = len(cores) > 1 and sum(map(_has_one_core, _tasks())) == len(cores) - 1
    if not is_bound:
        yield
        return
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _is_supported() -> bool:
    return sys.platform == "linux" and TASKS.is_dir()


def _tasks() -> set[int]:
    return {int(path.name) for path in TASKS.iterdir()}


def _has_one_core(task: int) -> bool:
    with suppress(ProcessLookupError):  # it has ended
        return len(os.sched_getaffinity(task)) == 1
    return False

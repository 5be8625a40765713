"""The device of a run: process-wide settings of PyTorch, the precision of steps, and how many runs fit in memory."""

from __future__ import annotations

import ctypes
import math
import platform
import re
import time
from collections.abc import Callable
from functools import cache

import torch

from cifar.cores import available_cores
from cifar.options.option import ConfigError
from cifar.training.threads import pin_team

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Clock = Callable[[], float]
"""Seconds since some moment, as time.perf_counter."""
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
M_ARENA_MAX = -8
"""Parameters of mallopt, from glibc's malloc.h."""


def set_up_device(name: str, threads: int | None, deterministic: bool) -> torch.device:
    """Apply the process-wide settings, and return the device called `name`: "auto", "cpu", "cuda" or "cuda:N".

    Raises ConfigError for another name, and for a device that this machine does not have.
    """
    device = _device(name)
    cores = cores_of_process()
    torch.set_num_threads(threads or min(torch.get_num_threads(), cores))  # PyTorch knows no quota
    if device.type == "cpu":
        pin_team()
    keep_freed_memory()
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, which convolutions use by default
    return device


@cache
def cores_of_process() -> int:
    """Those when it is first asked: where runs take turns, the thread of a later one is bound to a core (pinned)."""
    return available_cores()


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name, re.ASCII):
        raise ConfigError(f"device={name}: unknown; allowed: auto, cpu, cuda, cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and not available:
        raise ConfigError(f"device={name}: PyTorch finds no CUDA device on this machine; allowed: auto, cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={name}: this machine has {torch.cuda.device_count()} CUDA devices, numbered from 0;"
            " allowed: auto, cpu, cuda, cuda:N with such a number"
        )
    return device


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the kernel.

    By default it returns large blocks, and the next step causes page faults to get them back. Threads that start later
    share the one arena that keeps the memory. `python -m benchmarks step` measures what this is worth on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_ARENA_MAX, 1)


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of forward passes for the option `precision`; "auto" is bfloat16 where the device supports it."""
    if precision != "auto":
        return DTYPES[precision]
    supported = torch.cuda.is_bf16_supported if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported
    return torch.bfloat16 if supported() else torch.float32


def uses_cuda_graph(setting: str | bool, device: torch.device) -> bool:
    """Whether steps are replayed from CUDA graphs; `setting` is "auto", True or False.

    Raises ConfigError for True on a device without CUDA.
    """
    if setting is True and device.type != "cuda":
        raise ConfigError(f"cuda_graph=true: not possible on device={device.type}; allowed: auto, false")
    return bool(setting) and device.type == "cuda"


def max_concurrent_runs(device: torch.device) -> float:
    """How many runs like the current one fit into the device's memory; call it while that run is alone on the device.

    A tenth of the free memory stays unused. On a CPU there is no limit: infinity.
    """
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return 1 + 0.9 * free // torch.cuda.memory_reserved(device)


def wait(device: torch.device) -> None:
    """Until all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Measures the work that a device does between the moments when the stopwatch is made and when it is stopped.

    It does not wait for the device.
    """

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self.clock = clock
        self.events: list[torch.cuda.Event] = []
        self.times: list[float] = []
        self.on_cuda = device.type == "cuda"
        self.stop()

    def stop(self) -> None:
        if self.on_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.events.append(event)
        else:
            self.times.append(self.clock())

    @property
    def seconds(self) -> float:
        """To be read once the device has done all work."""
        if self.on_cuda:
            return float(self.events[0].elapsed_time(self.events[1])) / 1000
        return self.times[1] - self.times[0]

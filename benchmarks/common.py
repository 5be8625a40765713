"""What the benchmarks share: settings, the machine's description, and files of results."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import date
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from cifar.metadata import git_commit

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine and the versions that a figure was measured with."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": version("torch"),
        "torchvision": version("torchvision"),
        "commit": git_commit(),
    }


def _processor() -> str:
    """The processor's name, with those of its instruction sets that change the speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    return " ".join([name, *(flag for flag in ("avx2", "avx512_bf16", "amx_bf16") if flag in flags)])


def save(name: str, command: str, result: dict[str, Any]) -> None:
    """Print a result and write it to benchmarks/results/NAME.json, with its command and machine."""
    document = {"command": command, "machine": machine()} | result
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(json.dumps(document, indent=2))


class Remote:
    """An iterator in a separate process, which computes only when it is asked for the next value.

    So loops can alternate without sharing the allocator, the threads and the caches of one process. Raises EOFError
    where the process fails; its error is on the terminal.
    """

    def __init__(self, make: Callable[..., Iterator[float]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, make, *arguments))
        self.process.start()
        other.close()

    def __next__(self) -> float:
        self.connection.send(True)
        return self.connection.recv()

    def close(self) -> None:
        with suppress(OSError):  # the process has failed
            self.connection.send(False)
        self.process.join()


def _serve(connection: Connection, make: Callable[..., Iterator[float]], *arguments: Any) -> None:
    values = make(*arguments)
    while connection.recv():
        connection.send(next(values))
    if isinstance(values, Generator):
        values.close()


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}

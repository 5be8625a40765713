"""What an exported model costs: its size, its operations, and its latency on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar.cores import available_cores
from cifar.exporting.source import Source, random_images
from cifar.inference.model import open_session
from cifar.metadata import count_flops

BATCHES = (1, 32)
REPEATS, SECONDS = 30, 3.0
"""A latency is the median of so many runs, or of those that fit into so many seconds, at least 3."""


@dataclass(frozen=True)
class Latency:
    """`milliseconds`: the median of `repeats` runs of one batch."""

    batch: int
    milliseconds: float
    repeats: int


@dataclass(frozen=True)
class Cost:
    """`bytes` of the ONNX file, `flops` of an image (a multiply-add counts as 2); latencies by onnxruntime."""

    parameters: int
    flops: int
    bytes: int
    latencies: tuple[Latency, ...]
    threads: int
    processor: str


def measure(source: Source, onnx_file: Path, measured: tuple[Latency, ...] | None = None) -> Cost:
    """`measured`: the latencies, where they are known."""
    network = source.model.classifier.network
    size = source.model.format.size
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=count_flops(network, (3, size, size)),
        bytes=onnx_file.stat().st_size,
        latencies=measured or latencies([onnx_file], size)[0],
        threads=available_cores(),
        processor=processor(),
    )


def latencies(files: Sequence[Path], size: int) -> list[tuple[Latency, ...]]:
    """Of each file, with batches of BATCHES images, by onnxruntime on this machine; the files take turns."""
    sessions = [open_session(file) for file in files]
    of_batches = [_of_batch(sessions, size, batch) for batch in BATCHES]
    return list(zip(*of_batches, strict=True))


def _of_batch(sessions: Sequence[Any], size: int, batch: int) -> list[Latency]:
    images = {"images": random_images(batch, size).numpy()}
    for session in [*sessions, *sessions]:
        session.run(None, images)
    times: list[list[float]] = []
    while len(times) < 3 or (len(times) < REPEATS and sum(map(sum, times)) < SECONDS * len(sessions)):
        times.append([_seconds(session, images) for session in sessions])
    return [Latency(batch, 1000 * statistics.median(column), len(times)) for column in zip(*times, strict=True)]


def _seconds(session: Any, images: dict[str, Any]) -> float:
    start = time.perf_counter()
    session.run(None, images)
    return time.perf_counter() - start


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()

"""What an exported model costs: its size, its operations, and its latency on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

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


def measure(source: Source, onnx_file: Path) -> Cost:
    network = source.model.classifier.network
    size = source.model.format.size
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        flops=count_flops(network, (3, size, size)),
        bytes=onnx_file.stat().st_size,
        latencies=latencies(onnx_file, size),
        threads=available_cores(),
        processor=processor(),
    )


def latencies(file: Path, size: int) -> tuple[Latency, ...]:
    """Of batches of BATCHES images, by onnxruntime on this machine."""
    return tuple(_latency(file, size, batch) for batch in BATCHES)


def _latency(file: Path, size: int, batch: int) -> Latency:
    session = open_session(file)
    images = {"images": random_images(batch, size).numpy()}
    for _ in range(2):
        session.run(None, images)
    times: list[float] = []
    while len(times) < 3 or (len(times) < REPEATS and sum(times) < SECONDS):
        start = time.perf_counter()
        session.run(None, images)
        times.append(time.perf_counter() - start)
    return Latency(batch, 1000 * statistics.median(times), len(times))


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()

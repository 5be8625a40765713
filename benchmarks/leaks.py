"""CIFAR-10's own leaks: the test images with a near duplicate in the training part that are found, of those known.

python -m benchmarks leaks --data DIR --lists DIR

--lists holds cifar10_leaks.csv (test, train, kind): what Barz and Denzler (2020) found by eye, to which kind `near` is
counted here. Candidates are searched for in the pixels alone, and in features of EfficientNet-Lite0 too, which are
extracted anew; their extraction is part of the time.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import save
from benchmarks.typed import BACKBONE
from cifar.compose import composed
from cifar.data.duplicates import CUT, Pair, between
from cifar.data.images import Images
from cifar.experiment import set_up
from cifar.inputs import configured_backbone, request
from cifar.options.config import Config
from cifar.options.transfer import Frozen
from cifar.resources import SHARED
from cifar.run_data import load_images
from cifar.training.device import dtype_of

FLAGGED = 250
SETTINGS = ["transfer=frozen", *BACKBONE, "optimizer=adam", "precision=bf16"]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks leaks", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--lists", type=Path, required=True, help="a folder with cifar10_leaks.csv")
    options = parser.parse_args(argv)
    with (options.lists / "cifar10_leaks.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["test"]: row["kind"] for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as cache:
        result = measured(options.data, cache, listed)
    pixels, both = result["pixels alone"], result["pixels and features"]
    save(
        "leaks",
        "python -m benchmarks leaks --data DIR --lists DIR",
        {
            "what": f"test images of CIFAR-10 with a near duplicate in training, of {pixels['listed']} that are listed:"
            f" how many are among the {FLAGGED} flagged first",
            "figure": "; ".join(
                f"{name} {each['found']} ({each['found'] / each['listed']:.0%}) in {each['seconds']:.0f} s,"
                f" {each['CPU seconds']:.0f} s of CPU time"
                for name, each in (("pixels alone", pixels), ("with EfficientNet-Lite0 features", both))
            ),
        }
        | result,
    )


def measured(data: Path, cache: str, listed: Mapping[str, str]) -> dict[str, Any]:
    """What is found from the pixels, and with features; seconds of the search and of the extraction."""
    config = composed("data=image_folder", f"data.root={data}", f"cache.dir={cache}", *SETTINGS)
    device = set_up(config)
    train, test = load_images(config), SHARED.images(config.data, request(config, "test"))
    start = time.perf_counter(), time.process_time()
    alone = between(test.images, train.images)
    result = {"pixels alone": facts(alone, test, listed, start)}
    start = time.perf_counter(), time.process_time()
    features = features_of(config, test, device), features_of(config, train, device)
    extracted = time.perf_counter() - start[0]
    both = facts(between(test.images, train.images, features), test, listed, start)
    return result | {"pixels and features": both | {"of which extraction": extracted}}


def features_of(config: Config, images: Images, device: torch.device) -> Tensor:
    """Float32 (N, F), extracted as a run with transfer=frozen does it."""
    assert isinstance(config.transfer, Frozen)
    dtype = dtype_of(config.precision, device)
    cache = SHARED.feature_cache(config.cache.dir, device, config.transfer.batch_size, dtype)
    return cache.get(configured_backbone(config), images).features


def facts(pairs: list[Pair], test: Images, listed: Mapping[str, str], start: tuple[float, float]) -> dict[str, Any]:
    """The share of the listed images among those flagged first; seconds since `start`, wall clock and CPU."""
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    near = {name for name, kind in listed.items() if kind == "near"}
    first = [test.names[pair.first] for pair in pairs[:FLAGGED]]
    return {
        "listed": len(near),
        "found": sum(name in near for name in first),
        "flagged first that are in no list": sum(name not in listed for name in first),
        f"flagged at the default cut of {CUT:g}": len(pairs),
        "found at that cut": sum(test.names[pair.first] in near for pair in pairs),
        "seconds": seconds,
        "CPU seconds": cpu,
    }

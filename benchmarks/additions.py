"""What the options of the recipe bring on real images: each against the default recipe, at equal epochs.

python -m benchmarks additions --data DIR        # DIR/train/<class>/*, DIR/test/<class>/*
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.common import save
from cifar.compose import composed
from cifar.experiment import run
from cifar.reporting import NO_REPORTER
from cifar.results import read_result

RECIPES: dict[str, list[str]] = {
    "default": [],
    "augment=trivial": ["augment=trivial"],
    "loss.label_smoothing=0.1": ["loss.label_smoothing=0.1"],
    "ema.decay=0.99": ["ema.decay=0.99"],
    "augment.mixup=0.2": ["augment.mixup=0.2"],
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks additions", description=__doc__)
    parser.add_argument("--data", required=True, help="a directory with train/<class>/* and test/<class>/*")
    parser.add_argument("--images", type=int, default=5_000, help="to train and to validate on")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args(argv)
    scores: dict[str, list[float]] = {name: [] for name in RECIPES}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for name, overrides in RECIPES.items():
                scores[name].append(score(Path(folder) / f"{name}-{seed}", seed, options, overrides))
                print(f"seed {seed}, {name}: test accuracy {scores[name][-1]:.4f}", flush=True)
    save("additions", "python -m benchmarks additions --data DIR", _result(options, scores))


def score(place: Path, seed: int, options: argparse.Namespace, overrides: list[str]) -> float:
    """The test accuracy of a run's best epoch."""
    place.mkdir()
    config = composed(
        *("data=image_folder", f"data.root={options.data}", f"data.limit={options.images}", "threads=1"),
        *("test=true", f"model.width={options.width}", f"epochs={options.epochs}", f"seed={seed}"),
        *overrides,
    )
    run(config, str(place), NO_REPORTER)
    return float(read_result(place)["test"]["accuracy"])


def _result(options: argparse.Namespace, scores: dict[str, list[float]]) -> dict[str, object]:
    means = {name: statistics.mean(values) for name, values in scores.items()}
    return {
        "what": f"{options.images:,} images of CIFAR-10 as JPEG files, resnet14 of width {options.width},"
        f" {options.epochs} epochs, {options.seeds} seeds: mean test accuracy of the default recipe, and of it with one"
        " option",
        **scores,
        "figure": ", ".join(f"{name} {mean:.3f}" for name, mean in means.items()),
    }

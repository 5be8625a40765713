"""Classes of 100:10:1 images: class_weights=balanced objective=balanced_accuracy against the default recipe.

python -m benchmarks unbalanced

Real images, scikit-learn's digits: 500 of 1, 2 and 3 (one class), 50 of 8 and 5 of 9, of which a fifth validate. The
test part is all others of them. Balanced accuracy on it is the mean of the three recalls, so its counts do not matter.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits

from benchmarks.common import save
from cifar.compose import composed
from cifar.experiment import run
from cifar.reporting import NO_REPORTER
from cifar.results import read_result

CLASSES = {"frequent": ((1, 2, 3), 500), "middle": ((8,), 50), "rare": ((9,), 5)}
"""By class: its digits, and how many images the training part has."""
RECIPES: dict[str, list[str]] = {
    "default": [],
    "balanced": ["loss.class_weights=balanced", "objective=balanced_accuracy"],
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks unbalanced", description=__doc__)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root / "images")
        scores: dict[str, list[float]] = {name: [] for name in RECIPES}
        for seed in range(options.seeds):
            for name, overrides in RECIPES.items():
                scores[name].append(score(root, name, seed, options, overrides))
                print(f"seed {seed}, {name}: balanced accuracy {scores[name][-1]:.4f} on the test part", flush=True)
    save("unbalanced", "python -m benchmarks unbalanced", _result(options, scores))


def write_images(root: Path) -> None:
    """root/train/CLASS and root/test/CLASS."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    for name, (numbers, count) in CLASSES.items():
        chosen = [index for index in order if digits.target[index] in numbers]
        for part, indices in (("train", chosen[:count]), ("test", chosen[count:])):
            (root / part / name).mkdir(parents=True)
            for index in indices:
                pixels = (digits.images[index] * 255 / 16).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")


def score(root: Path, name: str, seed: int, options: argparse.Namespace, overrides: list[str]) -> float:
    """The balanced accuracy on the test part, of the epoch that the recipe's objective chose."""
    place = root / f"{name}-{seed}"
    place.mkdir()
    config = composed(
        "data=image_folder",
        f"data.root={root / 'images'}",
        *("data.val_size=0.2", "augment=none", "model=resnet14", "test=true"),
        *(f"model.width={options.width}", f"epochs={options.epochs}", f"seed={seed}", f"cache.dir={root / 'cache'}"),
        *overrides,
    )
    run(config, str(place), NO_REPORTER)
    return float(read_result(place)["test"]["balanced_accuracy"])


def _result(options: argparse.Namespace, scores: dict[str, list[float]]) -> dict[str, object]:
    """The means, and the 95% interval of the difference of the runs of one seed (Student's t)."""
    differences = [ours - theirs for ours, theirs in zip(scores["balanced"], scores["default"], strict=True)]
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    means = {name: statistics.mean(values) for name, values in scores.items()}
    return {
        "what": f"classes of 500, 50 and 5 digits, resnet14 of width {options.width}, {options.epochs} epochs,"
        f" {options.seeds} seeds: balanced accuracy on the test part, loss.class_weights=balanced"
        " objective=balanced_accuracy against the default recipe",
        **scores,
        "figure": f"{means['balanced']:.3f} against {means['default']:.3f}; 95% interval of the difference"
        f" {interval.low:+.3f} to {interval.high:+.3f}",
    }

"""Images whose classes differ in nothing but patterns finer than 2 pixels: at their own size, and by way of 32 pixels.

python -m benchmarks texture

Two classes of 64-pixel images: stripes of one pixel, along or across, faint, on clouds of random colours; towards the
border the stripes fade, as scaling by 2 would leave a trace of them there. A network from scratch and a head on the
features of a frozen ResNet-18 (random weights: no download) learn each on both sizes, with the same settings.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import save
from cifar.compose import composed
from cifar.experiment import run
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources

SIZE, MARGIN, AMPLITUDE = 64, 6, 24
SCRATCH = ("model.depths=[1,1]", "model.width=16", "optimizer=adam", "epochs=8")
BACKBONE = "transfer.backbone._target_=torchvision.models.resnet18"
FROZEN = (
    "transfer=frozen",
    "transfer.weights=random",
    BACKBONE,
    "transfer.image_size=64",
    "optimizer=adam",
    "optimizer.lr=0.01",
    "epochs=30",
)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks texture", description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="of which a fifth to validate on")
    options = parser.parse_args(argv)
    accuracies = {}
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder) / "images", options.images)
        for task, overrides in (("from scratch", SCRATCH), ("frozen features", FROZEN)):
            for size in ("auto", "32"):
                name = f"{task}, {'own size' if size == 'auto' else 'by way of 32'}"
                accuracies[name] = accuracy(Path(folder), name, (*overrides, f"data.image_size={size}"))
    figure = ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())
    what = "64-pixel images in 2 classes that differ in stripes of one pixel alone; validation accuracy"
    save("texture", "python -m benchmarks texture", {"what": what, "figure": figure, "accuracies": accuracies})


def make_images(folder: Path, count: int) -> None:
    """Write `count` PNG files to folder/train/along and folder/train/across."""
    random = np.random.default_rng(0)
    for number in range(count):
        label = ("along", "across")[number % 2]
        place = folder / "train" / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(textured(random, label == "across")).save(place / f"{number}.png")


def textured(random: np.random.Generator, across: bool) -> NDArray[np.uint8]:
    """One image (64, 64, 3): clouds, and stripes of one pixel."""
    colours = Image.fromarray(random.integers(60, 196, (6, 6, 3)).astype(np.uint8))
    clouds = np.asarray(colours.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).astype(np.float64)
    edge = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1])
    fade = np.clip(edge / MARGIN, 0, 1)
    sign = (-1.0) ** (np.arange(SIZE) + random.integers(2))
    stripes = (sign[:, None] if across else sign[None]) * fade[:, None] * fade[None]
    return np.clip(clouds + AMPLITUDE * stripes[..., None], 0, 255).round().astype(np.uint8)


def accuracy(folder: Path, name: str, overrides: tuple[str, ...]) -> float:
    """The best validation accuracy of a run on these images."""
    config = composed(
        *("data=image_folder", f"data.root={folder / 'images'}", "data.val_size=0.2", f"cache.dir={folder / 'cache'}"),
        *("device=cpu", *overrides),
    )
    directory = folder / name
    directory.mkdir()
    return run(config, str(directory), NO_REPORTER, resources=Resources())

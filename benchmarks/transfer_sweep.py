"""A search over the head of a frozen ResNet-50, against the loop that runs the backbone in every epoch of every trial.

python -m benchmarks transfer_sweep --data DIR

The plain loop (eager fp32, backbone in eval mode inside the loop) is timed on a part of an epoch and scaled to all
epochs; the whole search is timed, run by its command on an empty cache. Weights are random: that changes no time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

from benchmarks.common import save, spread
from cifar.data.images import Images
from cifar.data.random_split import subset
from cifar.data.request import Request
from cifar.data.sources import load
from cifar.models.preprocess import Preprocess
from cifar.options.data import ImageFolder

ROOT = Path(__file__).parent.parent
SIZE, BATCH, ROUNDS = 64, 32, 3


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfer_sweep", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/<class>/*")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batches", type=int, default=10, help="of the plain loop, timed in each of three rounds")
    options = parser.parse_args(argv)
    request = Request("train", Path("~/.cache/cifar").expanduser())
    images = subset(load(ImageFolder(root=str(options.data)), request), options.images, 0)
    plain = spread([per_image(images, options.batches) for _ in range(ROUNDS)])
    expected = plain["median"] * options.images * options.epochs * options.trials
    with tempfile.TemporaryDirectory() as folder:
        seconds, extracted = searched(Path(folder), options)
    ratio = expected / seconds
    save(
        "transfer-sweep",
        "python -m benchmarks transfer_sweep --data DIR",
        {
            "what": f"a search of {options.trials} trials, {options.epochs} epochs each, of a head on a frozen"
            f" ResNet-50, {options.images} images at {SIZE} pixels, against the plain loop (a part measured, scaled)",
            "figure": f"{seconds:.0f} s against {expected:.0f} s: {ratio:.0f} times; {extracted} images through the"
            " backbone",
            "seconds": seconds,
            "plain seconds per image": plain,
            "images through the backbone": extracted,
        },
    )


def per_image(images: Images, batches: int) -> float:
    """Seconds an image of the plain loop: preprocess, backbone without gradients, a step of the head."""
    net, preprocess = resnet50(), Preprocess(SIZE, SIZE)
    net.requires_grad_(False).eval()
    net.fc = nn.Linear(net.fc.in_features, len(images.classes))
    optimizer = torch.optim.Adam(net.fc.parameters())
    start = 0.0
    for number, (x, y) in enumerate(zip(images.images[:].split(BATCH), images.labels.split(BATCH), strict=True)):
        if number == 1:  # the first is to warm up
            start = time.perf_counter()
        if number > batches:
            break
        optimizer.zero_grad()
        F.cross_entropy(net(preprocess(x)), y).backward()
        optimizer.step()
    return (time.perf_counter() - start) / (batches * BATCH)


def searched(folder: Path, options: argparse.Namespace) -> tuple[float, int]:
    """Seconds of the whole command, and the images that went through the backbone in all of its trials."""
    command = [sys.executable, str(ROOT / "run.py"), "-m", "hydra/sweeper=optuna", "transfer=frozen", "optimizer=adam"]
    command += ["data=image_folder", f"data.root={options.data.resolve()}", f"data.limit={options.images}"]
    command += [f"transfer.image_size={SIZE}", "transfer.weights=random", f"epochs={options.epochs}"]
    command += [f"hydra.sweeper.n_trials={options.trials}", "hydra/sweeper/pruner=none", "hydra.sweep.dir=study"]
    command += [f"cache.dir={folder}/cache"]
    # The images have been decoded before, for the plain loop too: the command computes the features only.
    (folder / "cache").mkdir()
    (folder / "cache" / "images").symlink_to(Path("~/.cache/cifar/images").expanduser())
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    seconds = time.perf_counter() - start
    results = [json.loads(path.read_text()) for path in (folder / "study").glob("*/result.json")]
    assert len(results) == options.trials and all(result["status"] == "finished" for result in results)
    return seconds, sum(result["transfer"]["images_extracted"] for result in results)

"""The memory that the features of many images of 224 pixels need, of a frozen ResNet-50, beyond its weights.

python -m benchmarks memory

`python run.py` trains a head on the features of JPEG files of 256 x 256 pixels, on an empty cache. Its peak resident
memory is compared with the same run on 128 of the images, and with the memory that the weights take.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.models import resnet50

from benchmarks.common import save

ROOT = Path(__file__).parent.parent
FEW, DIFFERENT = 128, 50
RUN = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        few, many = (peak(Path(folder) / str(count), count) for count in (FEW, options.images))
    weights = sum(4 * parameter.numel() for parameter in resnet50().parameters())
    save(
        "memory",
        "python -m benchmarks memory",
        {
            "what": f"{options.images} JPEG files of 256x256 pixels through a frozen ResNet-50 at 224 pixels, and a"
            " head: peak memory of the process beyond the backbone's weights",
            "figure": f"{(many - weights) / 1e9:.2f} GB; of {FEW} images {(few - weights) / 1e9:.2f} GB",
            "peak bytes": many,
            f"peak bytes of {FEW} images": few,
            "bytes of the weights": weights,
        },
    )


def peak(folder: Path, count: int) -> int:
    """Peak resident memory, in bytes, of a run on `count` images."""
    random = np.random.default_rng(0)
    for number in range(count):
        place = folder / "images" / "train" / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"{number}.jpg"
        if number < DIFFERENT:
            Image.fromarray(random.integers(0, 256, (256, 256, 3), np.uint8)).save(file)
        else:
            file.hardlink_to(folder / "images" / "train" / str(number % 2) / f"{number % DIFFERENT}.jpg")
    command = [sys.executable, str(ROOT / "run.py"), "data=image_folder", f"data.root={folder / 'images'}"]
    command += ["transfer=frozen", "transfer.weights=random", "optimizer=adam", "epochs=1", "device=cpu"]
    command += [f"cache.dir={folder / 'cache'}", f"hydra.run.dir={folder / 'run'}"]
    answer = subprocess.run([sys.executable, "-c", RUN, *command], capture_output=True, text=True, check=True)
    return int(answer.stdout.splitlines()[-1])

"""CPU time to augment and normalise an image on one thread: crop_flip and trivial, against torchvision on one image.

python -m benchmarks augment
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable

import torch
import torchvision.transforms as pil
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks.common import save, spread
from benchmarks.plain import PIL
from cifar.data.augment.pieces import NO_PIECES, Pieces
from cifar.data.augment.policies import trivial
from cifar.data.images import Images
from cifar.data.loader import ImageLoader

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
FEW = 8
"""Torchvision gets one of so many images: it is slow."""
Loop = Callable[[int], Iterable[object]]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks augment", description=__doc__)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (options.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    times = measure(loops_of(pixels), options.rounds)
    medians = "; ".join(f"{name} {statistics.median(values):.1f} us" for name, values in times.items())
    ratio = median_ratio(times["trivial, transforms.v2 on tensors"], times["trivial"])
    alone = median_ratio(times["trivial alone, transforms.v2 on tensors"], times["trivial alone"])
    result = {
        "what": "CPU time to augment and normalise an image on one thread, against torchvision on single images"
        f" ({options.images} images); alone: without crop, flip and normalisation",
        "microseconds": {name: spread(values) for name, values in times.items()},
        "figure": f"{medians}; trivial {ratio:.1f} times as fast as transforms.v2 on tensors, alone {alone:.1f} times",
    }
    save("augment", "python -m benchmarks augment", result)


def measure(loops: dict[str, Loop], rounds: int) -> dict[str, list[float]]:
    """Microseconds of CPU time an image, in rounds of all loops in alternation."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            start = time.process_time()
            images = sum(map(count, loop(number + 1)))
            seconds = time.process_time() - start
            if number:  # the first round warms up
                times[name].append(seconds / images * 1e6)
    return times


def loops_of(pixels: Tensor) -> dict[str, Loop]:
    """By name: an epoch."""
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    some = pixels[::FEW].clone()
    few = Images(some, labels[::FEW], ("one", "two"), "")
    crop_flip = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    tensors, alone = v2.Compose([*crop_flip, v2.TrivialAugmentWide(), *normalise]), v2.TrivialAugmentWide()
    pil_crop_flip = [pil.RandomCrop(32, padding=4), pil.RandomHorizontalFlip()]
    images = pil.Compose([*pil_crop_flip, pil.TrivialAugmentWide(), pil.ToTensor(), pil.Normalize(MEAN, STD)])
    loader = DataLoader(PIL(few, images), 32, shuffle=True)
    return {
        "crop_flip": batches(pixels, labels, NO_PIECES).epoch,
        "trivial": batches(pixels, labels, Pieces((trivial(32, 32),))).epoch,
        "trivial, transforms.v2 on tensors": lambda number: map(tensors, some),
        "trivial, PIL DataLoader": lambda number: loader,
        "trivial alone": lambda number: only_trivial(pixels, number),
        "trivial alone, transforms.v2 on tensors": lambda number: map(alone, some),
    }


def batches(pixels: Tensor, labels: Tensor, pieces: Pieces) -> ImageLoader:
    device = torch.device("cpu")
    return ImageLoader(pixels, labels, 32, device, MEAN, STD, crop=4, flip=True, seed=0, pieces=pieces)


def only_trivial(pixels: Tensor, number: int) -> Iterable[Tensor]:
    policy = trivial(32, 32)
    draws = policy.draw(len(pixels), 32, 32, torch.Generator().manual_seed(number))
    for images, drawn in zip(torch.split(pixels, 256), torch.split(draws, 256), strict=True):
        yield policy.apply(images.contiguous(memory_format=torch.channels_last), drawn)


def count(batch: object) -> int:
    """The images of a batch, with or without its labels; 1 for a single image."""
    tensor = batch[0] if isinstance(batch, (tuple, list)) else batch
    assert isinstance(tensor, Tensor)
    return len(tensor) if tensor.dim() == 4 else 1


def median_ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))

"""Real sets as folders of classes, for the benchmarks of photographs: the same images each time.

python -m benchmarks folders --set cifar10=DIR --set fashion=DIR --images 10000 --out OUT

DIR is a folder of classes, with or without train/ and test/, or holds the files of Fashion-MNIST, as those of Debian's
dataset-fashion-mnist (/usr/share/datasets/fashion-mnist). The word scikit-learn in its place: its digits, brought to 32
pixels. Drawings of all sizes: /usr/share/openclipart/png of Debian's openclipart-png. OUT/NAME-N gets train/, val/ and
test/: of N images that are drawn from those to train on, the same share of each class, every fifth is to validate.
Without test/, the test images are drawn first. Classes of fewer than 100 images are left out. Images are as they are;
those that are no files become PNG files.
"""

from __future__ import annotations

import argparse
import gzip
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from cifar.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VALIDATED = 5
"""One image of so many is to validate."""
TEST = 5000
"""Test images, if there are so many; at most a fifth of a set that has no test part."""
FEWEST = 100
"""Images of a class that has enough of them."""
DIGITS = "scikit-learn"
"""The word for scikit-learn's digits, in place of a folder."""

Item = tuple[str, Callable[[Path], object]]
"""The name of an image file, and what writes it."""
Classes = Mapping[str, list[Item]]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks folders", description=__doc__)
    add_sets(parser)
    parser.add_argument("--images", type=int, default=10_000, help="to train and to validate on")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    for name, source in sets(options).items():
        print(written(name, source, options.images, options.out))


def add_sets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", action="append", required=True, metavar="NAME=DIR", help="can be repeated")


def sets(options: argparse.Namespace) -> dict[str, Path]:
    """The sets of the command line, by name."""
    pairs = [str(pair).partition("=") for pair in options.set]
    return {name: Path(folder).expanduser() for name, _, folder in pairs}


def words_of(sources: Mapping[str, Path]) -> str:
    """The sets and the folder of the results, as they are typed."""
    words = [f"--set {name}={DIGITS if str(source) == DIGITS else 'DIR'}" for name, source in sources.items()]
    return " ".join([*words, "--out OUT"])


def written(name: str, source: Path, images: int, out: Path) -> Path:
    """OUT/NAME-IMAGES, written if it is not there."""
    place = out / f"{name}-{images}"
    if place.exists():
        return place.resolve()
    training, test = parts(source)
    with new_folder(place) as folder:
        for label, items in drawn(training, images).items():
            write({label: [item for number, item in enumerate(items) if number % VALIDATED]}, folder / "train")
            write({label: items[::VALIDATED]}, folder / "val")
        write(drawn(test, TEST), folder / "test")
    return place.resolve()


def further(name: str, source: Path, images: int, count: int, out: Path) -> Path:
    """OUT/NAME-IMAGES-further, written if it is not there: at most `count` images to train on that `written` left."""
    place = out / f"{name}-{images}-further"
    if not place.exists():
        training, _ = parts(source)
        with new_folder(place) as folder:
            others = without(training, drawn(training, images))
            if not any(others.values()):
                raise UserError(f"--further {count}: all images to train on are in the set; allowed: fewer --images")
            write(drawn(others, count), folder)
    return place.resolve()


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder to write to, which gets its name when it is complete."""
    unfinished = place.with_suffix(".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    yield unfinished
    unfinished.rename(place)


def write(classes: Classes, folder: Path) -> None:
    for label, items in classes.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for file, write_file in items:
            write_file(folder / label / file)


def parts(source: Path) -> tuple[Classes, Classes]:
    """The images to train on and those of the test."""
    if list(source.glob("train-images-idx3-ubyte*")):
        return idx_classes(source, "train"), idx_classes(source, "t10k")
    if (source / "train").is_dir():
        training = large_enough(folder_classes(source / "train"))
        test = folder_classes(source / "test")
        return training, {label: test[label] for label in training if label in test}
    everything = large_enough(digit_classes() if str(source) == DIGITS else folder_classes(source))
    test = drawn(everything, min(TEST, sum(map(len, everything.values())) // 5))
    return without(everything, test), test


def without(classes: Classes, others: Classes) -> Classes:
    names = {label: {name for name, _ in items} for label, items in others.items()}
    return {label: [item for item in items if item[0] not in names[label]] for label, items in classes.items()}


def folder_classes(folder: Path) -> Classes:
    classes: dict[str, list[Item]] = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in sorted(place.rglob("*")) if path.suffix.lower() in SUFFIXES]
        names = ["-".join(path.relative_to(place).parts) for path in files]
        classes[place.name] = [(name, partial(shutil.copyfile, path)) for name, path in zip(names, files, strict=True)]
    return classes


def large_enough(classes: Classes) -> Classes:
    return {label: items for label, items in classes.items() if len(items) >= FEWEST}


def digit_classes() -> Classes:
    digits = load_digits()
    images = (Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((32, 32)) for pixels in digits.images)
    return labelled(images, digits.target)


def idx_classes(folder: Path, part: str) -> Classes:
    images = idx_values(next(folder.glob(f"{part}-images-idx3-ubyte*")), 16).reshape(-1, 28, 28)
    labels = idx_values(next(folder.glob(f"{part}-labels-idx1-ubyte*")), 8)
    return labelled(map(Image.fromarray, images), labels)


def labelled(images: Iterable[Image.Image], labels: NDArray[np.integer[Any]]) -> Classes:
    classes: dict[str, list[Item]] = {str(label): [] for label in np.unique(labels)}
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        classes[str(label)].append((f"{number:05}.png", image.save))
    return classes


def idx_values(path: Path, header: int) -> NDArray[np.uint8]:
    """The values of an IDX file of bytes, compressed or not; `header`: the bytes before them."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(content, np.uint8, offset=header)


def drawn(classes: Classes, count: int) -> Classes:
    """`count` images or a few less, the same share of each class; all, where there are fewer."""
    share = min(1.0, count / sum(map(len, classes.values())))
    return {
        label: random.Random(label).sample(list(items), int(share * len(items) + 0.5))
        for label, items in classes.items()
    }

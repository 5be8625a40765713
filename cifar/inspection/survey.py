"""One pass over the images of all parts: what is measured of each, and which cannot be read."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cifar.commands import install
from cifar.cores import available_cores
from cifar.data.decoded import Listing
from cifar.data.digests import digest_of_pixels
from cifar.data.duplicates import Pair
from cifar.data.fixes import GROUP, Fix
from cifar.data.images import DataError, Images, on_one_line, printable
from cifar.data.preprocessing import HeifError, ImageError
from cifar.data.storage import Storage
from cifar.inputs import cache_folder, request
from cifar.inspection.labels import Suspicion
from cifar.inspection.quality import SIDE, Measured, Measures, measured_file, measured_pixels
from cifar.options.config import Config
from cifar.options.splits import CALIBRATION, PARTS, TEST, TRAIN, VAL
from cifar.resources import Resources

PARTS_BY_PRIORITY = (TRAIN, CALIBRATION, VAL, TEST)
"""Of two copies, the finding names that of the later part."""
AT_ONCE = 1024
"""Images that are measured before their results are collected."""
Rows = NDArray[np.uint8]
Read = Callable[[], bytes | Rows]
"""Reads one image: the content of its file, or its pixels (H, W, 3)."""


class Sample(NamedTuple):
    """An image: `file`, its name below data.root or its position in the part, its part, and its class.

    `source`: the part as it came, as validation images are often taken from train. `digest`: where it is known already.
    """

    file: str
    part: str
    label: str
    read: Read
    source: str
    digest: bytes | None = None


@dataclass(frozen=True)
class Survey:
    """What one pass showed: of each sample its measures, or (errors, by index) why it cannot be read.

    `small`: uint8 (N, SIDE, SIDE, 3), zeros where a sample cannot be read. `near`, `suspicions`: near duplicates and
    labels that may be wrong, by the indices of samples; none where nobody has looked for them. `fixes`: those of
    data.fixes, which are applied. `notes`: what whoever reads the findings has to know of them.
    """

    samples: list[Sample]
    measures: list[Measures | None]
    errors: dict[int, str]
    small: Rows
    classes: tuple[str, ...]
    near: tuple[Pair, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    fixes: tuple[Fix, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def readable(self) -> NDArray[np.int64]:
        return np.array([index for index, row in enumerate(self.measures) if row is not None], np.int64)

    @cached_property
    def groups(self) -> dict[str, str]:
        """Of each file in a group of data.fixes, a name for all that groups connect; a label may itself be a file."""
        parents: dict[str, str] = {}

        def root(name: str) -> str:
            while parents.setdefault(name, name) != name:
                name = parents[name]
            return name

        for fix in self.fixes:
            if fix.action == GROUP:
                parents[root(fix.file)] = root(fix.label)
        return {name: root(name) for name in parents}

    def column(self, name: str) -> NDArray[np.float64]:
        """One of the measures, of the readable samples."""
        return np.array([getattr(self.measures[index], name) for index in self.readable], np.float64)

    def take(self, indices: list[int]) -> Survey:
        """These samples, before anything is looked for among them."""
        errors = {new: self.errors[old] for new, old in enumerate(indices) if old in self.errors}
        samples = [self.samples[index] for index in indices]
        measures = [self.measures[index] for index in indices]
        return replace(self, samples=samples, measures=measures, errors=errors, small=self.small[indices])

    def known(self, index: int) -> Measures:
        """Of a readable sample."""
        measures = self.measures[index]
        assert measures is not None
        return measures


@dataclass(frozen=True)
class _Part:
    """The samples of one part as it came; classes: those that their labels are indices into."""

    samples: list[Sample]
    classes: tuple[str, ...]


def survey(config: Config, resources: Resources, bar: bool = True) -> Survey:
    """Measure the images that `config` would train, validate and test on. Raises DataError where there are none."""
    parts = {part: content for part in PARTS if (content := _part(config, part, resources)) is not None}
    samples = [sample for part in parts.values() for sample in part.samples]
    measures: list[Measures | None] = []
    errors: dict[int, str] = {}
    small = np.zeros((len(samples), SIDE, SIDE, 3), np.uint8)
    for index, result in enumerate(_measured(samples, bar)):
        if isinstance(result, str):
            errors[index] = result
            measures.append(None)
        else:
            measures.append(result.measures)
            small[index] = result.small
    if len(errors) == len(samples):
        raise DataError(
            f"{config.data.root}: none of its {len(samples)} images can be read ({next(iter(errors.values()))})"
        )
    train = parts["train"]
    return Survey(samples, measures, errors, small, train.classes)


def _part(config: Config, part: str, resources: Resources) -> _Part | None:
    option = config.data
    if not option.listed:
        return _part_of_pixels(config, part, resources)
    listing: Listing | None = pkgutil.resolve_name(option.listed)(option, part, cache_folder(config))
    if listing is None:
        return None
    read = partial(_content, listing.storage)
    samples = [
        Sample(printable(listing.name(path)), part, listing.classes[label], partial(read, path), part)
        for path, label in listing.files
    ]
    return _Part(samples, listing.classes)


def _content(storage: Storage, path: Path) -> bytes:
    """Raises ImageError where the file cannot be read."""
    problem = storage.problem(path)
    if problem:
        raise ImageError(problem, "repair or remove it")
    try:
        return storage.read(path)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})", "repair or remove it") from None
    except DataError as error:
        raise ImageError(str(error)) from None


def _part_of_pixels(config: Config, part: str, resources: Resources) -> _Part | None:
    """A part of a source that is in no image files; None where it has no such part."""
    option = config.data
    if part == "val" and not (option.has_val and pkgutil.resolve_name(option.has_val)(option)):
        return None
    if part == "test" and option.lacks_test():
        return None
    images = resources.images(option, request(config, part, resources))
    names = images.names or tuple(map(str, range(len(images))))
    labels = [images.classes[label] for label in images.labels.tolist()]
    digests = None if images.digests is None else images.digests.numpy()
    samples = [
        Sample(
            *(name, part, label, partial(_pixels, images, position), part),
            digest=None if digests is None else digests[position].tobytes(),
        )
        for position, (name, label) in enumerate(zip(names, labels, strict=True))
    ]
    return _Part(samples, images.classes)


def _pixels(images: Images, position: int) -> Rows:
    return np.ascontiguousarray(images.images[position : position + 1][0].numpy().transpose(1, 2, 0))


def _measured(samples: list[Sample], bar: bool) -> Iterator[Measured | str]:
    """Of each sample, in order: measured in threads, or why it cannot be read."""
    disable = None if bar else True  # None: shown where standard error is a terminal
    with (
        ThreadPoolExecutor(available_cores()) as pool,
        tqdm(total=len(samples), desc="looking at images", unit="image", disable=disable) as progress,
    ):
        for start in range(0, len(samples), AT_ONCE):
            block = samples[start : start + AT_ONCE]
            yield from pool.map(_measure, block)
            progress.update(len(block))


def _measure(sample: Sample) -> Measured | str:
    try:
        content = sample.read()
        if isinstance(content, bytes):
            return measured_file(content)
        return measured_pixels(content, sample.digest or digest_of_pixels(content))
    except HeifError as error:
        return f"{error.problem} ({install('heic')})"
    except ImageError as error:
        return on_one_line(error.problem)

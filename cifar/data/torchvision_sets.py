"""The data sets of torchvision that have images, labels and parts.

Their classes differ in how a part is named and in how images are kept. Both are read from the class: the parameter of
its part, and the names that it allows there; its files where it decodes some, which are then decoded and cached as
those of folders are; its images otherwise, one by one, as RGB. Nothing is downloaded.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar.data import decoded
from cifar.data.decoded import Listing
from cifar.data.images import DataError, Images, from_arrays, printable
from cifar.data.names import named
from cifar.data.request import OR_WITHOUT, Request
from cifar.options.sources import Torchvision

PARAMETERS = ("train", "split", "image_set")
"""By what a class chooses the part, the first that it has. EMNIST has `train`, and a `split` that is something else."""
PART_NAMES = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}
"""Of each part, the names that torchvision has for it, the first that a class allows."""
NO_PART = "no such part"
RESERVED = {
    *("root", "download", "transform", "target_transform", "transforms", "loader", "target_type", "target_types"),
}
"""Arguments that data.kwargs may not have."""
SAMPLE = 20
"""How many items of a data set are compared with what is taken for its files and labels."""
EXAMPLES = "MNIST, FashionMNIST, SVHN, STL10, Flowers102, OxfordIIITPet"


@dataclass(frozen=True)
class Dataset:
    """A class of torchvision.datasets, the parameter of its part, and the values that are allowed there, by part."""

    option: Torchvision
    build: Callable[..., Any]
    parameters: frozenset[str]
    part: str
    values: dict[str, Any]

    @property
    def root(self) -> Path:
        return Path(self.option.root or "data").expanduser()

    def arguments(self, part: str) -> dict[str, Any]:
        """The keywords of a part. Raises DataError where there is no such part."""
        if part not in self.values:
            remedy = OR_WITHOUT[part]
            raise DataError(
                f"data.dataset={self.option.dataset}: it has no part {part}; it has {', '.join(self.values)}{remedy}"
            )
        return {self.part: self.values[part], **self.option.kwargs}

    def read(self, part: str, **more: Any) -> Any:
        """torchvision's object. Raises DataError where its files are missing or damaged, or an argument is wrong."""
        arguments = self.arguments(part)
        quiet = {"download": False} if "download" in self.parameters else {}
        try:
            return self.build(self.root, **arguments, **quiet, **more)
        except (TypeError, ValueError) as error:
            raise _arguments_error(self.option, self.parameters, self.part, _line(error).rstrip(".")) from None
        except (OSError, RuntimeError, EOFError, KeyError) as error:
            raise DataError(self._missing(part, error)) from None

    def _missing(self, part: str, error: Exception) -> str:
        """What to do where torchvision cannot read a part."""
        name, root = self.option.dataset, self.root
        problem = _line(error).replace(" You can use download=True to download it", "").rstrip(".")
        where = re.search(r"root \(.*?\): ((?:.+\n?)+?)(?=\s*\w+ \(|\n\n|$)", inspect.getdoc(self.build) or "")
        place = f' torchvision says of its root: "{_line(where[1])[:200].rstrip(".")}".' if where else ""
        keywords = "".join(f", {key}={value!r}" for key, value in self.arguments(part).items())
        command = f"from torchvision.datasets import {name}; {name}({str(root)!r}{keywords}, download=True)"
        download = f' To download them: python -c "{command}"' if "download" in self.parameters else ""
        return (
            f"data.dataset={name}: torchvision cannot read part {part} in {printable(root)} ({problem}).{place} Put its"
            f" files there, or name another data.root.{download}"
        )


def torchvision(option: Torchvision, request: Request) -> Images:
    """The images of one part. Raises DataError for an unknown data set, missing files, and what has no labels."""
    content = _content(find(option), request.part)
    if isinstance(content, Listing):
        return decoded.load(content, request, option.unreadable)
    pixels = np.empty((len(content), request.format.size, request.format.size, 3), np.uint8)
    labels = np.empty(len(content), np.int64)
    for index in range(len(content)):
        image, labels[index] = _item(option, content, index)
        pixels[index] = np.asarray(request.format.apply(image))
    indices, classes = _named(option, content, labels)
    return from_arrays(pixels, indices, classes)


def common_size(option: Torchvision, request: Request) -> int | None:
    """The height and width of all training images, None where they are not all square and equal."""
    content = _content(find(option), "train")
    if isinstance(content, Listing):
        return decoded.common_size(content, request.cache_dir)
    width, height = _item(option, content, 0)[0].size  # in arrays all are equal
    return width if width == height else None


def has_val(option: Torchvision) -> bool:
    """Whether torchvision has a part for validation of it."""
    return "val" in find(option).values


def find(option: Torchvision) -> Dataset:
    """The class that data.dataset names. Raises DataError where there is none with images, labels and parts."""
    import torchvision.datasets

    build = getattr(torchvision.datasets, option.dataset, None)
    if option.dataset not in torchvision.datasets.__all__ or not inspect.isclass(build):
        close = get_close_matches(option.dataset, torchvision.datasets.__all__, 3, 0.5)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise DataError(
            f"data.dataset={option.dataset}: torchvision has no such data set; {meant}allowed: one for classification,"
            f" as {EXAMPLES}"
        )
    parameters = _parameters(build)
    part = next((name for name in PARAMETERS if name in parameters), "")
    _check_arguments(option, parameters, part)
    values = _values(build, part) if part and "target_transform" in parameters else {}
    if "train" not in values:
        raise DataError(
            f"data.dataset={option.dataset}: not a data set for classification with a part to train on; allowed: one,"
            f" as {EXAMPLES}"
        )
    return Dataset(option, build, parameters, part, values)


def _check_arguments(option: Torchvision, parameters: frozenset[str], part: str) -> None:
    """Raises DataError for an argument in data.kwargs that the class does not have, or that is set here."""
    for name in option.kwargs:
        if name not in parameters - RESERVED - {part}:
            raise _arguments_error(option, parameters, part, f"no argument {name}")


def _arguments_error(option: Torchvision, parameters: frozenset[str], part: str, problem: str) -> DataError:
    allowed = ", ".join(sorted(parameters - RESERVED - {part})) or "nothing"
    return DataError(
        f"data.dataset={option.dataset} data.kwargs={option.kwargs}: {problem}; allowed in data.kwargs: {allowed}"
    )


def _parameters(build: type) -> frozenset[str]:
    """The names of the arguments of a class, with those that it passes on to its base classes."""
    names: set[str] = set()
    for cls in inspect.getmro(build):
        init = vars(cls).get("__init__")
        if init is None:
            continue
        parameters = inspect.signature(init).parameters
        names |= {name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return frozenset(names - {"self"})


def _values(build: Callable[..., Any], part: str) -> dict[str, Any]:
    """The value of the parameter `part` by part of the data: those that the class says are allowed.

    Empty where it allows none of PART_NAMES. Raises DataError where it cannot be asked, as without a package.
    """
    if part == "train":
        return {"train": True, "test": False}
    try:
        build("", **{part: NO_PART})
    except Exception as error:
        if "Valid values are" not in str(error):
            raise DataError(f"data.dataset={build.__name__}: torchvision does not read it ({_line(error)})") from None
        allowed = re.findall(r"'([^']+)'", str(error).partition("Valid values are")[2])
        named_parts = {name: [value for value in values if value in allowed] for name, values in PART_NAMES.items()}
        return {name: values[0] for name, values in named_parts.items() if values}
    return {}


def _content(dataset: Dataset, part: str) -> Any:
    """A Listing of the files that a part is decoded from; torchvision's object where that holds the images."""
    option = dataset.option
    if "loader" in dataset.parameters:
        content = dataset.read(part, loader=Path)  # so an item is a path and a label
        items = [content[index] for index in range(len(content))]
        paths = [path for path, _ in items]
        raw = [_label(option, label) for _, label in items]
    else:
        content = dataset.read(part)
        paths = _attribute(content, _path, _shows_item) or []
        raw = _attribute(content, _whole_number, _labels_item) or []
        if not (paths and raw):
            return content
    labels, classes = _named(option, content, np.array(raw, np.int64))
    files = list(zip(paths, labels.tolist(), strict=True))
    return Listing(dataset.root, files, classes, labels_from=f"torchvision {option.dataset}")


T = TypeVar("T")


def _attribute(
    content: Any, convert: Callable[[Any], T | None], suits: Callable[[T, tuple[Any, Any]], bool]
) -> list[T] | None:
    """The first attribute with one entry for each item that suits the items; a sample of them is compared."""
    count = len(content)
    sample = {int(index) for index in np.linspace(0, count - 1, SAMPLE)}
    for attribute in vars(content).values():
        if not isinstance(attribute, list) or len(attribute) != count:
            continue
        for column in zip(*attribute, strict=True) if isinstance(attribute[0], tuple) else [attribute]:
            values = [convert(value) for value in column]
            converted = [value for value in values if value is not None]
            if len(converted) == count and all(suits(converted[index], content[index]) for index in sample):
                return converted
    return None


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, (str, Path)) else None


def _whole_number(value: Any) -> int | None:
    return value if type(value) is int else None


def _shows_item(path: Path, item: tuple[Any, Any]) -> bool:
    """Whether a file holds the image of an item."""
    with suppress(OSError), Image.open(path) as image:
        return bool(image.convert("RGB") == item[0].convert("RGB"))
    return False


def _labels_item(label: int, item: tuple[Any, Any]) -> bool:
    return bool(label == item[1])


def _item(option: Torchvision, content: Any, index: int) -> tuple[Image.Image, int]:
    """An image, RGB, and its label."""
    image, label = content[index]
    if not isinstance(image, Image.Image):
        raise _no_classification(option, f"its images are {type(image).__name__}")
    return image.convert("RGB"), _label(option, label)


def _label(option: Torchvision, label: Any) -> int:
    if isinstance(label, (int, np.integer)) and label >= 0:
        return int(label)
    raise _no_classification(option, f"one of its labels is {label!r:.60}")


def _no_classification(option: Torchvision, reason: str) -> DataError:
    return DataError(
        f"data.dataset={option.dataset}: not a data set for classification ({reason}); allowed: one, as {EXAMPLES}"
    )


def _named(option: Torchvision, content: Any, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as indices into the class names: torchvision's, where it has some, else the labels themselves."""
    names = [_name(name) for name in getattr(content, "classes", ())]
    if not names:
        names = [str(label) for label in range(int(labels.max()) + 1)]
    if labels.max() >= len(names):
        raise _no_classification(option, f"a label is {labels.max()}, and it has {len(names)} class names")
    return named(labels, names)


def _name(name: Any) -> str:
    """A class name; ImageNet has several for each."""
    return name if isinstance(name, str) else ", ".join(map(str, name))


def _line(error: object) -> str:
    return " ".join(str(error).split())

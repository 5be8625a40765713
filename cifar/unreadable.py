"""Image files of a run that cannot be read: all are in unreadable.csv in its directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cifar.data import val_part
from cifar.data.images import DataError
from cifar.data.unreadable import FILE, UnreadableError, table
from cifar.files import FileError, write_atomically
from cifar.inputs import request
from cifar.options.config import Config
from cifar.options.splits import VAL_PARTS
from cifar.resources import Resources


def write_unreadable(directory: Path, problems: Mapping[str, Mapping[str, str]]) -> None:
    """Write unreadable.csv, by part and name the reason; none where there is no such file. Raises FileError."""
    if any(problems.values()):
        write_atomically(directory / FILE, table(problems))
    else:
        (directory / FILE).unlink(missing_ok=True)  # that of a start that was refused


@contextmanager
def naming_unreadable(config: Config, directory: Path, resources: Resources) -> Iterator[None]:
    """Within the block, an UnreadableError of one part becomes one of all parts, which are listed in unreadable.csv."""
    try:
        yield
    except UnreadableError as error:
        errors = [other for part in _parts(config) for other in _of(part, config, resources)]
        others = [other for other in errors if other.part != error.part]  # a test part may be some of the training part
        problems = {each.part: each.problems for each in (error, *others)}
        if others or len(error.problems) > 1:
            error.followed_by(others, _listed(config, directory, problems))
        raise


def _listed(config: Config, directory: Path, problems: Mapping[str, Mapping[str, str]]) -> str:
    """Write unreadable.csv, and say so; not into a run that is resumed, which a refused start leaves as it is."""
    if config.resume is not None:
        return ""
    try:
        write_unreadable(directory, problems)
    except FileError:  # it would hide what is wrong with the images
        return ""
    return f"All are in {directory / FILE}"


def _parts(config: Config) -> list[str]:
    """The parts of the data that a run reads."""
    val_from = val_part.resolved(config.data)
    return list(dict.fromkeys(["train", VAL_PARTS.get(val_from, "train"), *(["test"] if config.test else [])]))


def _of(part: str, config: Config, resources: Resources) -> Iterator[UnreadableError]:
    """What is unreadable in a part; nothing where it has other errors."""
    try:
        resources.images(config.data, request(config, part, resources))
    except UnreadableError as error:
        yield error
    except DataError:
        return

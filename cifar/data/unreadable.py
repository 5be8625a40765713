"""Image files that cannot be read or decoded: all are named at once, and remembered, so that none is decoded again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import PIL

from cifar.data.decode import DECODING
from cifar.data.images import DataError, on_one_line
from cifar.files import FileError, csv_bytes, write_atomically

FILE = "unreadable.csv"
SHOWN = 20
"""Files in one message, and in result.json."""
LINE = "\n  "


@dataclass(frozen=True)
class Problem:
    """Why a file cannot be read; `passing`: whether that may change without a change of the file."""

    reason: str
    passing: bool = False


class UnreadableError(DataError):
    """Image files of a part that cannot be read. `problems`: by their names below `directory`, why."""

    several_lines = True

    def __init__(self, part: str, directory: Path, images: int, problems: Mapping[str, str]) -> None:
        super().__init__(_message(part, directory, images, problems))
        self.part = part
        self.problems = dict(problems)

    def followed_by(self, others: Sequence[UnreadableError], place: str = "") -> None:
        """Have the message continue with those of other parts, and with the place where all files are listed."""
        self.args = ("\n".join(filter(None, [str(self), *map(str, others), place])),)


def _message(part: str, directory: Path, images: int, problems: Mapping[str, str]) -> str:
    if len(problems) == 1:
        ((name, reason),) = problems.items()
        remedy = f"repair or remove this file of part {part}, or leave it out with data.unreadable=skip"
        return f"{on_one_line(directory / name)}: {reason}; {remedy}"
    first = (
        f"{on_one_line(directory)}: {len(problems)} of {images} image files of part {part} cannot be read; repair or"
        f" remove them, or leave them out with data.unreadable=skip:"
    )
    return f"{first}{LINE}{shown(problems, LINE)}"


def shown(problems: Mapping[str, str], separator: str = "; ") -> str:
    """The first problems, by name, and how many more there are."""
    lines = [f"{on_one_line(name)}: {reason}" for name, reason in list(problems.items())[:SHOWN]]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return separator.join([*lines, *more])


def table(problems: Mapping[str, Mapping[str, str]]) -> bytes:
    """The content of unreadable.csv. `problems`: by part and name, why."""
    rows = [(name, part, reason) for part, of_part in problems.items() for name, reason in of_part.items()]
    return csv_bytes([("file", "part", "reason"), *rows], "backslashreplace")


def versions() -> list[str]:
    """On what it depends, besides the files, which of them can be read."""
    try:
        heif = version("pillow-heif")
    except PackageNotFoundError:
        heif = ""
    return [DECODING, PIL.__version__, heif]


def recall(file: Path) -> dict[int, Problem] | None:
    """What `remember` wrote: by position, why a file cannot be read; None where there is nothing, or it is damaged."""
    with suppress(OSError, ValueError, TypeError):
        return {int(index): Problem(*values) for index, values in json.loads(file.read_bytes()).items()}
    return None


def remember(file: Path, problems: Mapping[int, Problem]) -> None:
    """Write down which files cannot be read."""
    content = {str(index): [problem.reason, problem.passing] for index, problem in problems.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileError):  # it only saves decoding the others again
        write_atomically(file, json.dumps(content).encode())

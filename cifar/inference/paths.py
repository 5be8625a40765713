"""The image files that arguments of a command line name: files, folders, patterns, a list."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, TextIO

from cifar.data.images import on_one_line
from cifar.data.listing import ARCHIVES, NAMES_SHOWN, Walk
from cifar.errors import UserError

MAGIC = re.compile(r"[*?[]")
"""What makes a name a pattern, where no file has that name."""
ALLOWED = "allowed: image files, folders, patterns in quotes ('photos/**/*.jpg'), or - for a list on standard input"


class NoImagesError(UserError):
    """Arguments that name no image."""


@dataclass
class ImagePaths:
    """Collects the paths that arguments name, in their order; those in a folder are sorted.

    Of folders and patterns, only names of images count, as in training; other files are in `walk.skipped`. A file that
    is named itself counts whatever its name is; an archive is a problem. `problems`: what names nothing, in words.
    """

    paths: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    walk: Walk = field(default_factory=lambda: Walk(quiet=True, tolerant=True))

    def add(self, argument: str) -> None:
        """The images that a file, a folder or a pattern names."""
        path = Path(argument)
        if os.path.isdir(argument):  # noqa: PTH112  (Path.is_dir raises for names that are too long)
            self._add_all(self._below(path), argument, "no images in this folder")
        elif path.suffix.lower() in ARCHIVES and os.path.isfile(argument):  # noqa: PTH113
            self.problems.append(f"{on_one_line(argument)}: an archive; unpack it, and name its folder")
        elif MAGIC.search(argument) and not os.path.lexists(argument):
            self._add_all(self._matching(argument), argument, "no image matches this pattern")
        else:
            self.paths.append(path)

    def add_list(self, file: BinaryIO) -> None:
        """The files and folders in a list, one a line."""
        for line in file.read().split(b"\n"):
            name = os.fsdecode(line.removesuffix(b"\r"))
            if os.path.isdir(name):  # noqa: PTH112
                self.add(name)
            elif name:
                self.paths.append(Path(name))

    def _add_all(self, paths: Iterable[Path], argument: str, problem: str) -> None:
        before = len(self.paths)
        self.paths += paths
        if len(self.paths) == before:
            self.problems.append(f"{on_one_line(argument)}: {problem}{self.walk.summary()}")

    def _below(self, folder: Path) -> list[Path]:
        return sorted(self.walk.images(folder, ()))

    def _matching(self, pattern: str) -> Iterator[Path]:
        """The images that a pattern names; ** stands for any folders but hidden ones and links that form loops."""
        parts = Path(pattern).parts
        number = parts.index("**") if "**" in parts else len(parts)
        rest = parts[number:]
        for name in sorted(glob.glob(str(Path(*parts[:number])))):  # noqa: PTH207  (an absolute one too)
            path = Path(name)
            if path.is_dir():
                if rest or self.walk.goes_down(path, (os.path.realpath(path.parent),)):
                    below = self._below(path)
                    yield from (image for image in below if not rest or _matches(image.relative_to(path).parts, rest))
            elif not rest and self.walk.is_image(path):
                yield path


def _matches(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Whether a path matches patterns, part by part, where ** stands for any number of parts, but not for the last."""
    if not parts or not patterns:
        return not parts and not patterns
    if patterns == ("**",):
        return True
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or _matches(parts[1:], patterns)
    return fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def image_paths(arguments: Iterable[str], stdin: TextIO) -> ImagePaths:
    """The images that all arguments name. Raises NoImagesError where that is none."""
    collected = ImagePaths()
    for argument in arguments:
        if argument == "-":
            collected.add_list(stdin.buffer)
        else:
            collected.add(argument)
    if any(map(os.path.lexists, collected.paths)):
        return collected
    missing = [f"{on_one_line(path)}: no such file" for path in collected.paths[:NAMES_SHOWN]]
    more = len(collected.paths) - NAMES_SHOWN
    reasons = [*collected.problems, *missing, *([f"and {more} more"] if more > 0 else [])]
    raise NoImagesError(f"{'; '.join(reasons or ['the list on standard input is empty'])}; {ALLOWED}")

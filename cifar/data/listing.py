"""Which files below a folder are images, by their extensions, and of which class."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from cifar.data.images import DataError, printable
from cifar.data.preprocessing import HEIF_SUFFIXES
from cifar.data.request import OR_WITHOUT
from cifar.data.storage import DISK, Storage
from cifar.formatting import shortened

log = logging.getLogger(__name__)
LabelledFile = tuple[Path, int]
SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
    *("system volume information", "__pycache__"),
}
"""What systems and programs leave in folders, in lower case, besides names that begin with a dot."""
NO_IMAGES = ("BUFR", "GRIB", "HDF5", "MPEG")
"""Formats of which Pillow reads the header alone: data and videos."""
REMEDIES = {
    "train": "data.root must be a directory that holds train/<class>/* or <class>/*, or a .zip or .tar file of these",
    "val": f"data.val_from=val_folder needs val/<class>/* in data.root; add it{OR_WITHOUT['val']}",
    "test": f"test=true needs test/<class>/* in data.root, as data.val_from=test_part; add it{OR_WITHOUT['test']}",
}
"""What to do about a part that is missing."""
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
NAMES_SHOWN = 5
"""File names in one message."""
REASONS_SHOWN = 8
"""Reasons in one message why files were skipped."""


def list_images(
    directory: Path, part: str, quiet: bool = False, walk: Walk | None = None
) -> tuple[list[LabelledFile], tuple[str, ...]]:
    """All images below the class folders of `directory`, with their labels, and the class names, both sorted.

    What is skipped is counted by the `walk`, and logged, unless `quiet`. The part "train" defines the classes: there
    each folder needs an image, elsewhere an empty one does not count. Raises DataError for a folder without images or
    with too few classes.
    """
    walk = walk or Walk(quiet=quiet)
    folders = _class_folders(directory, part, walk)
    files: list[LabelledFile] = []
    names: list[str] = []
    for folder in folders:
        before = walk.skipped.copy()
        paths = sorted(walk.images(folder, (os.path.realpath(directory),)), key=lambda path: path.parts)
        if not paths and part == "train":
            skipped = Walk(walk.skipped - before).summary()
            raise DataError(f"{printable(folder)}: no images in this class{skipped}; add some or remove the directory")
        if paths:
            files += [(path, len(names)) for path in paths]
            names.append(printable(folder.name))
    if not files:
        raise DataError(f"{printable(directory)}: no images in it{walk.summary()}; add some to its class directories")
    if walk.skipped.total() and not quiet:
        log.info("%s: %d images%s", printable(directory), len(files), walk.summary())
    return files, tuple(names)


def _class_folders(directory: Path, part: str, walk: Walk) -> list[Path]:
    """The class folders of a part, sorted; images beside these are named in a warning."""
    if not walk.is_dir(directory):
        remedy = REMEDIES[part]
        raise DataError(f"{printable(directory)}: no such directory; {remedy}")
    entries = sorted(walk.visible(directory))
    folders = [path for path in entries if walk.is_dir(path) and walk.goes_down(path, (os.path.realpath(directory),))]
    strays = [path for path in entries if not walk.is_dir(path) and walk.is_image(path)]
    for path in entries:
        if walk.broken.pop(path, None):  # it is of no class, and would be left out anyway
            walk.skipped["broken links outside the class directories"] += 1
    least = 2 if part == "train" else 1
    if len(folders) < least:
        content = f"one class ({printable(folders[0].name)})" if folders else "no class directories"
        beside = f", and images outside of these ({_names(strays)})" if strays else ""
        look = Walk(quiet=True, tolerant=True, storage=walk.storage)
        deeper = folders and sum(map(walk.is_dir, look.visible(folders[0]))) > 1
        raise DataError(
            f"{printable(directory)}: {content}{beside}{walk.summary()}; allowed: a directory a class,"
            f" {('one', 'two')[least - 1]} or more, with images in them{_unpack(walk)}"
            + (f"; are these in {printable(folders[0])}?" if deeper else "")
        )
    if strays and not walk.quiet:
        log.warning(
            "%s: images outside the class directories are left out: %s; move each into the directory of its class",
            printable(directory),
            _names(strays),
        )
    return folders


def _unpack(walk: Walk) -> str:
    """What to do about archives that were skipped."""
    archives = [suffix for suffix in ARCHIVES if walk.skipped[f"{suffix} files"]]
    return f"; unpack the {' and '.join(archives)} files first" if archives else ""


def _names(paths: list[Path]) -> str:
    return shortened((printable(path.name) for path in paths), NAMES_SHOWN)


@dataclass
class Walk:
    """A walk through folders, which follows links. `skipped` counts what it left out, by reason.

    `broken`: what is named as an image and is no regular file, with the reason. `tolerant`: that is passed on as an
    image, and folders that cannot be read are skipped, in place of an error.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    quiet: bool = False
    tolerant: bool = False
    storage: Storage = DISK
    broken: dict[Path, str] = field(default_factory=dict)

    def is_dir(self, path: Path) -> bool:
        return self.storage.is_dir(path)

    def images(self, folder: Path, outer: tuple[str, ...]) -> Iterator[Path]:
        """The images below a folder. `outer`: the real paths of the folders that it is in, links followed."""
        place = os.path.realpath(folder)
        for path in self.visible(folder):
            if not self.is_dir(path):
                if self.is_image(path):
                    yield path
            elif self.goes_down(path, (*outer, place)):
                yield from self.images(path, (*outer, place))

    def goes_down(self, folder: Path, outer: tuple[str, ...]) -> bool:
        """Whether a folder is not a link to one that it is in."""
        place = os.path.realpath(folder)
        is_loop = any(Path(path).is_relative_to(place) for path in outer)
        if is_loop:
            self.skipped["links to a folder that they are in"] += 1
        return not is_loop

    def visible(self, folder: Path) -> Iterator[Path]:
        """What is in a folder and neither hidden nor left there by a system."""
        try:
            names = self.storage.names(folder)
        except OSError as error:
            if not self.tolerant:
                raise
            self.skipped[f"folders that cannot be read ({error.strerror})"] += 1
            return
        for name in names:
            if name.startswith(".") or name.lower() in SYSTEM_NAMES:
                self.skipped["hidden or system files and folders"] += 1
            else:
                yield folder / name

    def is_image(self, path: Path) -> bool:
        """Whether a file is an image, by its extension. Raises DataError for a link to nothing, perhaps of a folder."""
        suffix = path.suffix.lower()
        if suffix not in image_suffixes() and (suffix or not self.storage.is_dangling(path)):
            self.skipped[f"{suffix} files" if suffix else "files without an extension"] += 1
            return False
        problem = "" if self.tolerant else self.storage.problem(path)
        if problem and not suffix:
            raise DataError(f"{printable(path)}: {problem}; repair or remove it")
        if problem:
            self.broken[path] = problem
        return not problem

    def summary(self) -> str:
        """In words, what was skipped; nothing where that is nothing."""
        reasons = [f"{count} {printable(reason)}" for reason, count in self.skipped.most_common() if count]
        if len(reasons) > REASONS_SHOWN:
            others = self.skipped.total() - sum(count for _, count in self.skipped.most_common(REASONS_SHOWN))
            reasons = [*reasons[:REASONS_SHOWN], f"{others} others"]
        return f" (skipped: {', '.join(reasons)})" if reasons else ""


@cache
def image_suffixes() -> frozenset[str]:
    """The extensions of image files that Pillow can open, with pillow-heif, in lower case, as ".png"."""
    Image.init()
    readable = Image.OPEN.keys() - set(NO_IMAGES)
    return HEIF_SUFFIXES | {suffix for suffix, name in Image.EXTENSION.items() if name in readable}

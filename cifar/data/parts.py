"""Which folder of a data set is which part, by its name: train, val or valid or validation, test.

Where there is no folder train, the folders are classes: the data have no parts, and all images are of "train".
"""

from __future__ import annotations

import logging
from pathlib import Path

from cifar.data.images import DataError, on_one_line, printable
from cifar.data.listing import Walk

log = logging.getLogger(__name__)
NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
ALL = tuple(name for names in NAMES.values() for name in names)
SIMILAR = ("training", "testing", "eval", "evaluation", "dev")
"""What parts are called elsewhere: taken for no class, nor left out in silence."""
LAYOUTS = "train/<class>/*, val/<class>/* and test/<class>/*, or <class>/* alone"


def directory(walk: Walk, root: Path, part: str) -> Path:
    """The folder of a part, or the one that it should have. Raises DataError where none is clear.

    Of several names the first of NAMES is taken, with a warning.
    """
    names = _present(walk, root, part)
    if len(names) > 1 and not walk.quiet:
        log.warning(
            "%s: %s are folders for one part: %s is used; remove or rename the other",
            *(on_one_line(root), " and ".join(names), names[0]),
        )
    if names:
        if part == "train":
            _check_beside(walk, root)
        return root / names[0]
    if part != "train":
        return root / part
    if walk.is_dir(root):
        _check_classes(walk, root)
    return root


def has(walk: Walk, root: Path, part: str) -> bool:
    """Whether there is a folder of this part."""
    return bool(_present(walk, root, part))


def top(walk: Walk, root: Path) -> Path:
    """The single folder in an archive, where the data are in it; else the top of the archive itself."""
    folders = _folders(walk, root)
    if len(folders) == 1 and folders[0] not in ALL and _folders(walk, root / folders[0]):
        return root / folders[0]
    return root


def _present(walk: Walk, root: Path, part: str) -> list[str]:
    return [name for name in NAMES[part] if walk.is_dir(root / name)]


def _folders(walk: Walk, folder: Path) -> list[str]:
    return sorted(path.name for path in walk.visible(folder) if walk.is_dir(path))


def _check_classes(walk: Walk, root: Path) -> None:
    """Raises DataError where folders of a root without train are not classes, but parts under other names."""
    others = [name for name in _folders(walk, root) if name.lower() in ALL or _holds_classes(walk, root, name)]
    if others:
        raise DataError(
            f"{on_one_line(root)}: there is no folder train, and {', '.join(others)} beside it, which are no classes;"
            f" allowed: {LAYOUTS}; rename the folder of the images to train on to train"
        )


def _check_beside(walk: Walk, root: Path) -> None:
    """Raises DataError where a part has another name, and where train is a class among others, as it has none.

    Warns of folders that are no parts.
    """
    others = [name for name in _folders(walk, root) if name not in ALL]
    parts = [name for name in others if _holds_classes(walk, root, name)]
    if parts:
        raise DataError(
            f"{on_one_line(root)}: {', '.join(parts)} beside train, as if it were a part; allowed: {LAYOUTS} (also"
            f" {', '.join(NAMES['val'][1:])}); rename it, or move it out of the folder"
        )
    classes = [name for name in others if _holds_images(walk, root / name)]
    is_class = not _folders(walk, root / "train") and _holds_images(walk, root / "train")
    is_alone = not has(walk, root, "val") and not has(walk, root, "test")
    if classes and is_alone and is_class:
        shown = printable(", ".join(classes[:3]))
        raise DataError(
            f"{on_one_line(root)}: train is the part to train on, and there are images in {shown} beside it; where"
            " train is a class as these are, rename it, as to trains; else move them out of the folder"
        )
    if classes and not walk.quiet:
        log.warning(
            "%s: %s beside train hold images, and are left out, as they are no parts; allowed: %s",
            *(on_one_line(root), printable(", ".join(classes)), LAYOUTS),
        )


def _holds_classes(walk: Walk, root: Path, name: str) -> bool:
    """Whether a folder is called nearly as a part is, and holds folders of images, as one of another program may."""
    folder = root / name
    if name.lower() not in (*ALL, *SIMILAR) or _holds_images(walk, folder):
        return False
    return any(_holds_images(walk, folder / below) for below in _folders(walk, folder))


def _holds_images(walk: Walk, folder: Path) -> bool:
    """Whether there are images in a folder, beside those in folders below it."""
    quiet = Walk(quiet=True, tolerant=True, storage=walk.storage)
    return any(quiet.is_image(path) for path in quiet.visible(folder) if not quiet.is_dir(path))

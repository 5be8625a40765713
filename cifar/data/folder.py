"""Images in folders: <data.root>/<part>/<class>/*, or <data.root>/<class>/*, on the disk or in an archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cifar.data import decoded, parts
from cifar.data.archive import ALLOWED
from cifar.data.decoded import Listing
from cifar.data.groups import groups_by_pattern
from cifar.data.images import DataError, Images, on_one_line, printable
from cifar.data.listing import Walk, image_suffixes, list_images
from cifar.data.open_archive import RECENT
from cifar.data.request import Request
from cifar.data.storage import DISK, Storage
from cifar.options.data import Data
from cifar.options.splits import REGEX


@dataclass(frozen=True)
class Place:
    """Where the data are: a folder, or the top of an archive or of the single folder in it."""

    storage: Storage
    directory: Path

    def walk(self, quiet: bool = False) -> Walk:
        return Walk(quiet=quiet, storage=self.storage)


def image_folder(option: Data, request: Request) -> Images:
    """The images of a part; all images, as "train", where there are no parts.

    Raises DataError as list_images does, and for images that cannot be decoded.
    """
    place = place_of(option, request.cache_dir)
    directory = parts.directory(place.walk(request.quiet), place.directory, request.part)
    listing = _listing(place, directory, request.part, request.quiet)
    groups = None if option.groups is None else _groups(option.groups, listing, directory, request.part)
    return decoded.load(listing, request, option.unreadable, groups)


def listed(option: Data, part: str, cache_dir: Path) -> Listing | None:
    """The files of one part, readable or not; None where it is not there. Raises DataError as list_images does."""
    place = place_of(option, cache_dir)
    walk = Walk(tolerant=True, storage=place.storage)
    if part != "train" and not (has_parts(option) and parts.has(walk, place.directory, part)):
        return None
    directory = parts.directory(walk, place.directory, part)
    return Listing(place.directory, *list_images(directory, part, walk=walk), storage=place.storage)


def common_size(option: Data, request: Request) -> int | None:
    """The height and width of all images of the training part, None where they are not all square and equal.

    Raises DataError as list_images does.
    """
    place = place_of(option, request.cache_dir)
    directory = parts.directory(place.walk(quiet=True), place.directory, "train")
    return decoded.common_size(_listing(place, directory, "train", quiet=True), request.cache_dir)


def has_val(option: Data) -> bool:
    """Whether there is a part for validation."""
    place = place_of(option)
    return parts.has(place.walk(), place.directory, "val") and has_parts(option)


def has_parts(option: Data, cache_dir: Path | None = None) -> bool:
    """Whether there is a folder root/train: the folders of root are classes otherwise.

    `cache_dir`: where the listing of a compressed archive is kept.
    """
    place = place_of(option, cache_dir)
    return parts.has(place.walk(), place.directory, "train")


def reader(option: Data, cache_dir: Path) -> Callable[[str], bytes]:
    """What gives the content of an image by its name in Images.names. Raises DataError or OSError."""
    place = place_of(option, cache_dir)
    return lambda name: place.storage.read(place.directory / name)


def place_of(option: Data, cache_dir: Path | None = None) -> Place:
    """The place that data.root names. Raises DataError for a file that is no archive, or one that is not allowed."""
    root = Path(option.root or "").expanduser()
    if not root.is_file():
        return Place(DISK, root)
    try:
        archive = RECENT.open(root, cache_dir)
    except DataError:
        if root.suffix.lower() not in image_suffixes():
            raise
        raise DataError(
            f"{on_one_line(root)}: an image; allowed: the folder that holds a folder of images for each class, or its"
            f" archive ({ALLOWED})"
        ) from None
    except OSError as error:
        raise DataError(f"{on_one_line(root)}: cannot be read ({error.strerror or error})") from None
    return Place(archive, parts.top(Walk(quiet=True, storage=archive), root))


def _groups(groups: str, listing: Listing, directory: Path, part: str) -> Tensor:
    """int64 (N,): the groups of files by what data.groups finds in their names, below their class folders."""
    names = [printable(Path(*path.relative_to(directory).parts[1:]).as_posix()) for path in listing.paths]
    files = [printable(listing.name(path)) for path in listing.paths]
    return groups_by_pattern(groups.removeprefix(REGEX), names, part, files)


def _listing(place: Place, directory: Path, part: str, quiet: bool = False) -> Listing:
    walk = place.walk(quiet)
    files, classes = list_images(directory, part, quiet, walk)
    return Listing(place.directory, files, classes, broken=walk.broken, storage=place.storage)

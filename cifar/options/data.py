"""config group data: where the images come from, which are taken, and how they are normalised."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from cifar.options.fields import one_of, restricted, within
from cifar.options.option import ConfigError, Option
from cifar.options.outside import check_outside
from cifar.options.splits import (
    AUTO,
    ERROR,
    EXACT,
    NEAR,
    REGEX,
    SKIP,
    SPLITS,
    TEST_PART,
    TRAINING_PART,
    VAL_FOLDER,
    check_calibration,
    check_fixes,
    check_folds,
    check_groups,
    check_size,
    check_split,
    check_test,
    check_val_from,
)

if TYPE_CHECKING:
    from cifar.options.config import Config

SIZES = (8, 512)
"""The smallest and the largest size of images, in pixels."""


def is_size(value: Any) -> bool:
    """Whether a value of image_size is allowed."""
    return value == AUTO or (type(value) is int and SIZES[0] <= value <= SIZES[1])


@dataclass
class Data(Option):
    """A source of images; `root` is a directory.

    `image_size`: height and width in pixels that images are brought to; auto: what cifar.inputs makes of their sizes.
    `val_from`: what the validation images are taken from: val_size of the training part, the part for validation that
    came with the data, or the test part; auto: that for validation where there is one, else the training part.
    """

    group: ClassVar[str] = "data"
    key: ClassVar[str] = "source"
    changeable: ClassVar[tuple[str, ...]] = ("root", "fixes", "unreadable", "check_duplicates")
    loader: ClassVar[str]
    """The import path of the function that reads the images: (this option, cifar.data.request.Request) -> Images."""
    downloads: ClassVar[str] = ""
    """The folder below `root` that the loader downloads where it is missing; "" for one that only reads."""
    root_is: ClassVar[str] = ""
    """What `root` must be, in words; "" where it may be null."""
    own_size: ClassVar[int | None] = None
    """Height and width of all images of the source, in pixels; None where that depends on the user."""
    measure: ClassVar[str] = ""
    """The import path of a function (this option, Request) -> the height and width of all images, None where they
    differ or are not square; "" where own_size says it."""
    train_images: ClassVar[int | None] = None
    """Images in the training part; None where that depends on the user."""
    has_val: ClassVar[str] = ""
    """The import path of a function (this option) -> whether the data came with a part for validation, "val"; "" where
    they never do."""
    listed: ClassVar[str] = ""
    """The import path of a function (this option, part, cache directory) -> cifar.data.decoded.Listing, or None where
    there is no such part; "" for a source that is in no image files."""
    name_key: ClassVar[str] = "root"
    """The key that tells the data sets of the source apart in names of studies, where train_images is None."""
    groups_by: ClassVar[tuple[str, ...]] = ()
    """By what data.groups may group the images: those of cifar.options.groups.WAYS for which the loader sets
    Images.groups of the training part."""
    knows_content: ClassVar[bool] = False
    """Whether the loader sets Images.digests, so that data.split=content may be asked for."""
    later: ClassVar[tuple[str, ...]] = (
        *("limit", "val_size", "val_seed", "split", "val_from", "normalize", "mean", "std", "image_size", "fit"),
        *("folds", "fold", "calibration_size", "check_duplicates"),
    )
    """The keys that do not decide what the loader reads: they apply to it afterwards, or are in the request."""
    crop: ClassVar[int] = 4
    """Pixels of padding for random crops that suit the images."""
    flip: ClassVar[bool] = True
    """Whether a mirrored image is one of the same class."""

    source: str = MISSING
    root: str | None = MISSING
    image_size: Any = restricted(f"a whole number of pixels in [{SIZES[0]}, {SIZES[1]}], or auto", is_size)
    fit: str = one_of("crop", "stretch", "pad")
    limit: int | None = within("[1, inf)")
    val_size: float = within("(0, inf)")
    val_seed: int = within("[0, 4294967295]")
    split: str = one_of(*SPLITS, default="random")
    val_from: str = one_of(AUTO, TRAINING_PART, VAL_FOLDER, TEST_PART)
    folds: int | None = within("[2, inf)", None)
    fold: int | None = within("[0, inf)", None)
    groups: str | None = None
    fixes: str | None = None
    unreadable: str = one_of(ERROR, SKIP, default=ERROR)
    check_duplicates: str = one_of(EXACT, NEAR, default=EXACT)
    calibration_size: float = within("[0, inf)", 0.0)
    normalize: bool = MISSING
    mean: list[float] | None = MISSING
    std: list[float] | None = within("(0, inf)")

    @classmethod
    def suits(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What augment.crop and augment.flip are where they are null and the source has these settings."""
        return {"crop": cls.crop, "flip": cls.flip}

    def source_key(self) -> tuple[tuple[str, str], ...]:
        """What decides the images that the loader reads, by key."""
        names = (field.name for field in dataclasses.fields(self) if field.name not in self.later)
        return tuple((name, repr(getattr(self, name))) for name in names)

    @classmethod
    def only_reads(cls, root: str) -> bool:
        """Whether loading from the directory `root` writes nothing there."""
        return not cls.downloads or (Path(root).expanduser() / cls.downloads).is_dir()

    @property
    def title(self) -> str:
        """What results and logs call the source."""
        return self.source

    @property
    def splits_training_part(self) -> bool:
        """Whether it is sure, before the data are read, that the validation images are of the training part."""
        return self.val_from == TRAINING_PART or (self.val_from == AUTO and not self.has_val)

    @property
    def never_written(self) -> str | None:
        """The folder of the user's images, in which nothing is written; None where there is none."""
        return None

    def lacks_test(self) -> bool:
        """Whether it is sure that there is no test part. Lists what there is: reads no image, and imports no torch."""
        return False

    def check(self, config: Config) -> None:
        if self.root_is and self.root is None:
            raise ConfigError(f"data.root=null: allowed: {self.root_is}")
        check_val_from(self)
        check_test(self, config.test)
        if not is_size(self.image_size):
            raise ConfigError(
                f"data.image_size={self.image_size}: allowed: a whole number of pixels from {SIZES[0]} to {SIZES[1]},"
                " or auto"
            )
        check_split(self)
        check_fixes(self)
        check_folds(self)
        check_groups(self)
        check_calibration(self)
        if self.folds is None:
            self._check_val_size()
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) != 3:
                raise ConfigError(
                    f"data.{name}={value}: allowed: three numbers (red, green, blue; pixels in [0, 1]) or null"
                )
            if value is not None and not self.normalize:
                raise ConfigError(f"data.{name}={value}: not used with data.normalize=false; allowed: null, or true")

    def _check_val_size(self) -> None:
        check_size("val_size", self.val_size)
        splits = self.splits_training_part
        if splits and self.train_images is not None and self.val_size >= self.train_images:
            raise ConfigError(
                f"data.val_size={self.val_size:g}: not below the {self.train_images} images that there are"
                " (data.source); allowed: fewer, or a fraction"
            )
        if splits and self.limit is not None and self.val_size >= self.limit:
            raise ConfigError(
                f"data.limit={self.limit}: not above data.val_size={self.val_size:g}, the images to validate on;"
                " allowed: a larger limit or null, fewer images to validate on, or a fraction"
            )


@dataclass
class CIFAR10(Data):
    """CIFAR-10: 50,000 training images of 32x32 pixels in 10 classes; torchvision downloads and checks 170 MB."""

    loader = "cifar.data.sources.cifar10"
    own_size = 32
    downloads = "cifar-10-batches-py"
    train_images = 50_000
    source: str = "cifar10"


@dataclass
class CIFAR100(Data):
    """CIFAR-100: 50,000 training images of 32x32 pixels in 100 classes; torchvision downloads and checks 170 MB."""

    loader = "cifar.data.sources.cifar100"
    own_size = 32
    downloads = "cifar-100-python"
    train_images = 50_000
    source: str = "cifar100"


@dataclass
class Digits(Data):
    """Digits: 1,797 handwritten digits from scikit-learn, brought to 32x32 RGB; embedded, no download."""

    loader = "cifar.data.sources.digits"
    own_size = 8
    train_images = 1_617
    crop = 0  # the digits are centred: in 10 epochs, shifted ones cost more accuracy than they bring
    flip = False  # a mirrored digit is another sign
    source: str = "digits"


@dataclass
class ImageFolder(Data):
    """Your own images: DIR/<class>/*, or DIR/train/<class>/*, with DIR/val and DIR/test if any; also a .zip or .tar."""

    loader = "cifar.data.folder.image_folder"
    measure = "cifar.data.folder.common_size"
    has_val = "cifar.data.folder.has_val"
    listed = "cifar.data.folder.listed"
    groups_by = (REGEX,)
    knows_content = True
    root_is = "a directory, or a .zip or .tar file, that holds train/<class>/* or <class>/*"
    source: str = "image_folder"
    test_size: float = within("[0, inf)", 0.15)

    @property
    def never_written(self) -> str | None:
        return self.root

    def check(self, config: Config) -> None:
        super().check(config)
        check_size("test_size", self.test_size)
        check_outside(self.root, {"cache.dir": config.cache.dir, **config.tracker.written()})

    def lacks_test(self) -> bool:
        root = Path(self.root or "").expanduser()
        return (root / "train").is_dir() and not (root / "test").is_dir()

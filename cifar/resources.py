"""What the runs of one process share: images and features, in memory and on the device, and the backbone.

A worker of a search runs many trials in one process, most of them on the same data. Each cache keeps the few values
that were used last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar.data import extended_split, sources, val_part
from cifar.data.calibration_part import with_calibration
from cifar.data.copies import warn_of_copies
from cifar.data.duplicates import leaked
from cifar.data.fixes import read_fixes
from cifar.data.images import Images
from cifar.data.request import Request
from cifar.data.resident import padded, stacked
from cifar.data.split import Splits, prepare
from cifar.initial import Initial
from cifar.models import feature_cache
from cifar.models.feature_cache import FeatureCache, Features
from cifar.models.pretrained import Backbone, build_backbone
from cifar.options.data import Data
from cifar.options.splits import VAL_PARTS
from cifar.results import BEST
from cifar.training.step import autocast

T = TypeVar("T")


class RecentlyUsed(Generic[T]):
    """Keeps the `size` values that were used last, by key."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`; `make` computes it where it is not kept."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        if len(self._values) > self.size:
            self._values.popitem(last=False)
        return value


def _source(option: Data) -> Hashable:
    """What a data source depends on: a relative folder is in the working directory."""
    return option.source_key(), Path.cwd()


@dataclass(frozen=True)
class _BackboneKey:
    """What a backbone depends on. `modified` is the time of a weights file, ns: a file may be replaced in its place."""

    target: Mapping[str, object]
    weights: str
    sha256: str | None
    head: str | None
    image_size: int | None
    modified: int | None


class Resources:
    """The data and models that runs share. A Tensor in a key stands for that tensor object, not for its values."""

    def __init__(self) -> None:
        self._images = RecentlyUsed[Images](6)
        self._sizes = RecentlyUsed[int | None](4)
        self._splits = RecentlyUsed[Splits](2)
        self._leaked = RecentlyUsed[NDArray[np.bool_]](4)
        self._padded = RecentlyUsed[Tensor](3)  # training, validation and calibration images of one data set
        self._stacked = RecentlyUsed[Tensor](2)
        self._asked: set[Hashable] = set()
        self._features: dict[Path, Features] = {}  # mapped from their files, so they take little memory
        self._backbone: tuple[_BackboneKey, Backbone] | None = None
        self._initial = RecentlyUsed[Initial](1)

    def is_first(self, what: Hashable) -> bool:
        """Whether this is asked for the first time: of the trials of one process, one tells what is of all."""
        is_new = what not in self._asked
        self._asked.add(what)
        return is_new

    def images(self, option: Data, request: Request) -> Images:
        """The images that are asked for, of the data source that the option describes."""
        fixes = read_fixes(option.fixes).sha256()  # the file may be edited during a search

        def load() -> Images:
            logged = not self.is_first(("images", _source(option), request.part))
            return sources.load(option, replace(request, quiet=logged))

        return self._images.get((_source(option), request, fixes), load)

    def common_size(self, option: Data, request: Request) -> int | None:
        """The height and width of all training images of a source, None where they differ or are not square."""
        key = (_source(option), request.cache_dir)
        return self._sizes.get(key, lambda: sources.common_size(option, request))

    def splits(self, option: Data, request: Request) -> Splits:
        """The images that are asked for, limited and split into those to train on and to validate on.

        Where request.known says which of them an earlier run knew, they stay in its parts.
        """
        settings = (option.limit, option.val_size, option.val_seed, option.folds, option.fold, option.split)
        images = self.images(option, request)  # before it is asked for parts: an archive is listed here, and cached
        val_from = val_part.resolved(option)
        known = request.known

        def make() -> Splits:
            if val_from in VAL_PARTS:
                val = self.images(option, replace(request, part=VAL_PARTS[val_from]))
                splits = val_part.splits_of(option, val_from, images, val)
                splits = extended_split.with_val_part(option, splits, known) if known else splits
            elif known:
                splits = extended_split.extended(option, images, known)
            else:
                splits = prepare(images, *settings)
            if known:
                splits = extended_split.with_calibration(splits, option.calibration_size, option.val_seed, known)
            else:
                splits = with_calibration(splits, option.calibration_size, option.val_seed, option.split)
            if splits.calibration is not None:
                warn_of_copies(splits.calibration, splits.train, "calibration")
            return replace(splits, also_in_train=warn_of_copies(splits.val, splits.train, "validation"))

        fixes = read_fixes(option.fixes).sha256()  # the file may be another one since
        key = (_source(option), fixes, request, settings, val_from, option.calibration_size)
        return self._splits.get(key, make)

    def leaked(self, images: Images, train: Images, check: str) -> NDArray[np.bool_]:
        """Which of the images are in `train` too, as cifar.data.duplicates.leaked finds them."""
        key = (images.fingerprint, train.fingerprint, check)
        return self._leaked.get(key, lambda: leaked(images.images, train.images, check))

    def initial(self, directory: Path, make: Callable[[], Initial]) -> Initial:
        """The run in a directory, with which others begin; `make` reads it where it is not kept."""
        modified = (directory / BEST).stat().st_mtime_ns if (directory / BEST).exists() else None
        return self._initial.get((directory, modified), make)

    def padded(self, images: Tensor, crop: int, device: torch.device) -> Tensor:
        """Images on the device, as cifar.data.resident.padded returns them."""
        return self._padded.get((images, crop, device), lambda: padded(images, crop, device))

    def stacked(self, views: Sequence[Features], device: torch.device) -> Tensor:
        """The features of each view, float32 (K, N, F) on the device."""
        keys = [view.key for view in views]
        return self._stacked.get((device, *keys), lambda: stacked(device, *(view.features for view in views)))

    def feature_cache(self, cache_dir: str, device: torch.device, batch_size: int, dtype: torch.dtype) -> FeatureCache:
        """The cache of features that are computed in `dtype` on `device`, `batch_size` images at once."""

        folder = feature_cache.folder(cache_dir)
        return FeatureCache(folder, device, batch_size, str(dtype), autocast(device, dtype), self._features)

    def backbone(
        self, target: Mapping[str, object], weights: str, sha256: str | None, head: str | None, image_size: int | None
    ) -> Backbone:
        """The backbone that build_backbone builds of these arguments, with its count of images at 0.

        Its model is shared: copy it before training it. Raises ConfigError or TransferError.
        """
        path = Path(weights).expanduser()
        modified = path.stat().st_mtime_ns if path.is_file() else None
        key = _BackboneKey(target, weights, sha256, head, image_size, modified)
        if self._backbone is None or self._backbone[0] != key:
            self._backbone = (key, build_backbone(target, weights, sha256, head, image_size))
        return replace(self._backbone[1], images_seen=0)


SHARED = Resources()
"""The resources of this process: the default of every function that takes some."""

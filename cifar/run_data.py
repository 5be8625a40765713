"""The images of one run: those to train and to validate on, those to test on, and what result.json says of them."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar import comparison, metadata
from cifar.data import split_file
from cifar.data.copies import warn_of_copies
from cifar.data.exact import log_exact_copies
from cifar.data.extended_split import unseen_test
from cifar.data.fixes import FIXES, read_fixes
from cifar.data.groups import warn_of_shared_groups
from cifar.data.images import DataError, Images, printable
from cifar.data.known import as_recorded
from cifar.data.split import Splits
from cifar.data.val_part import log_val_from, resolved
from cifar.files import write_atomically
from cifar.formatting import shortened
from cifar.inputs import configured_backbone, initial_of, request
from cifar.options.config import Config
from cifar.options.resume import recorded_config
from cifar.options.splits import TRAIN, VAL_PARTS
from cifar.options.transfer import Pretrained
from cifar.resources import SHARED, Resources
from cifar.unreadable import write_unreadable

log = logging.getLogger(__name__)
NAMES_SHOWN = 3
"""File names in one message."""


def load_splits(config: Config, resources: Resources = SHARED) -> Splits:
    """The images to train and to validate on.

    Their mean and std are those of the run that this one begins with, or of the config, else those of pretrained
    weights, else those of the training images.
    """
    data = config.data
    splits = resources.splits(data, request(config, "train", resources))
    if config.resume is not None:
        splits = as_recorded(splits, load_images(config, resources), Path(config.resume), data.limit)
    initial = initial_of(config, resources)
    if initial is not None:
        return dataclasses.replace(splits, mean=initial.best["mean"], std=initial.best["std"])
    if not data.normalize:
        return dataclasses.replace(splits, mean=[0.0] * 3, std=[1.0] * 3)
    mean, std = splits.mean, splits.std
    if isinstance(config.transfer, Pretrained):
        preprocess = configured_backbone(config, resources).preprocess
        mean, std = list(preprocess.mean), list(preprocess.std)
    return dataclasses.replace(splits, mean=data.mean or mean, std=data.std or std)


def load_images(config: Config, resources: Resources = SHARED, corrected: bool = True) -> Images:
    """All images of the training part, which load_splits splits; not `corrected`: as they are without data.fixes."""
    return resources.images(config.data, request(config, "train", resources, corrected))


def load_test_images(config: Config, splits: Splits, resources: Resources = SHARED) -> Images:
    """The test part, labelled by the classes of the training part, of which it may lack some.

    Raises DataError where there is none, or where it has other classes.
    """
    data = config.data
    asked = request(config, "test", resources)
    images = unseen_test(resources.images(data, asked), asked.known)
    try:
        return images.with_classes(splits.train.classes)
    except DataError as error:
        raise DataError(f"test=true: the test part of {data.root or data.source}: {error}; or set test=false") from None


def with_recorded_fixes(config: Config) -> Config:
    """A run that is resumed keeps the fixes that it copied, whatever became of the file.

    Raises DataError where another file is given, which says something else.
    """
    copy = Path(config.resume or "") / FIXES
    if config.resume is None or config.data.fixes is None or not copy.exists():
        return config
    is_other = config.data.fixes not in (str(copy), recorded_config(config, config.resume).data.fixes)
    if is_other and read_fixes(config.data.fixes).sha256() != read_fixes(str(copy)).sha256():
        raise DataError(
            f"data.fixes={config.data.fixes}: says something else than {copy}, with which the run was started; allowed:"
            " leave it out, or start a new run"
        )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, fixes=str(copy)))


@dataclass(frozen=True)
class TestData:
    """The images to test on. `also_in_train`: how many of them are among those to train on, pixel by pixel.

    `names`: those of the test part as it is; `without_fixes`: that part, where data.fixes changes it.
    """

    images: Images
    also_in_train: int
    names: tuple[str, ...]
    without_fixes: Images | None


class RunData:
    """The images of a run, before it has begun."""

    def __init__(self, config: Config, resources: Resources) -> None:
        self.config = config
        self.resources = resources
        self.splits = load_splits(config, resources)
        log_val_from(config.data, self.splits)
        if resources.is_first(("exact copies", config.data.source_key())):
            log_exact_copies(config.data, self.splits)
        self.initial = initial_of(config, resources)
        self.initial_facts = self._compare_with_initial()
        self.fixes = read_fixes(config.data.fixes)
        self.facts = metadata.data_facts(config, load_images(config, resources), self.splits)

    def load_test(self) -> TestData:
        """The test part. Raises as load_test_images does."""
        train = self.splits.train
        images = load_test_images(self.config, self.splits, self.resources)
        copies = warn_of_copies(images, train, "test")
        warn_of_shared_groups(images, train, "test")
        if self.config.data.fixes is None:
            return TestData(images, copies, images.names, None)
        as_it_is = request(self.config, "test", self.resources, corrected=False)
        raw = unseen_test(self.resources.images(self.config.data, as_it_is), as_it_is.known, quiet=True)
        self.facts["fixes"]["of_test_images"] = self.fixes.counts(raw.names)
        return TestData(images, copies, raw.names, self._without_fixes(images, raw))

    def _without_fixes(self, images: Images, raw: Images) -> Images | None:
        """The test part as it is, where fixes change it and all of its classes are known."""
        with suppress(DataError):  # images that are dropped may have other classes
            known = raw.with_classes(self.splits.train.classes)
            return known if known.fingerprint != images.fingerprint else None
        return None

    def _compare_with_initial(self) -> dict[str, Any]:
        """What result.json says of the run that this one begins with, which is logged; empty where there is none."""
        if self.initial is None:
            return {}
        facts = comparison.images_facts(self.initial, load_images(self.config, self.resources), self.splits)
        log.info("from_run=%s: %s", self.config.from_run, comparison.facts_text(facts))
        self._check_kept(facts)
        return {"from_run": {"path": self.config.from_run, "sha256": self.initial.sha256, **facts}}

    def _check_kept(self, facts: dict[str, Any]) -> None:
        """Raises DataError where classes would be lost because only new images were named."""
        if facts["images"]["kept"] or facts["images"]["left_out"] or self.config.resume is not None:
            return
        place = self.config.data.root or self.config.data.source
        problem = f"from_run={self.config.from_run}: none of its images are in {place}"
        removed = facts["classes"]["removed"]
        if removed:
            raise DataError(
                f"{problem}, and no images of its classes {shortened(removed, NAMES_SHOWN)}, which the model would"
                " lose; allowed: all images, those of before among them"
            )
        log.warning("%s: the model is trained on the new ones alone", problem)

    def record(self, directory: Path, test: TestData | None) -> None:
        """Write split.csv, unreadable.csv and copies of data.fixes and of the run that this one begins with."""
        if self.initial is not None:
            self.initial.save(directory)
        parts = {"train": self.splits.train, "val": self.splits.val, "calibration": self.splits.calibration}
        parts["test"] = test.images if test else None
        split_file.write(directory, parts)
        read = metadata.parts_of(load_images(self.config, self.resources), self.splits)
        read |= {"test": test.images} if test else {}
        write_unreadable(directory, {part: images.unreadable for part, images in read.items()})
        if self.config.data.fixes is None:
            return
        write_atomically(directory / FIXES, self.fixes.content())
        names_by_part = self._names(test)
        unreadable = {printable(name) for images in read.values() for name in images.unreadable}
        unused = self.fixes.unused(unreadable.union(*names_by_part))
        where = "" if test else " (those of the test part are read with test=true)"
        names = f"{shortened(unused, NAMES_SHOWN)}{where}"
        others = f"; not among the images that were read: {names}" if unused else ""
        counts = ", ".join(f"{action} {count}" for action, count in self.fixes.counts().items())
        log.info("data.fixes=%s: %s%s", self.config.data.fixes, counts, others)
        alone = self.fixes.groups_without_effect(names_by_part)
        if alone:
            log.warning(
                "data.fixes=%s: these groups have no effect, as no second image of the same part has their name in the"
                " column label, or is the file that it names: %s",
                *(self.config.data.fixes, shortened(alone, NAMES_SHOWN)),
            )

    def _names(self, test: TestData | None) -> list[set[str]]:
        """The names of the images of each part that the run reads, before data.fixes."""
        of_val = VAL_PARTS.get(resolved(self.config.data), TRAIN)
        asked = (request(self.config, part, self.resources, corrected=False) for part in dict.fromkeys((TRAIN, of_val)))
        parts = [set(self.resources.images(self.config.data, each).names) for each in asked]
        return [*parts, set(test.names)] if test else parts

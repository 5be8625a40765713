"""config group data, continued: images in arrays, in a table, and the data sets of torchvision."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from cifar.options.data import Data
from cifar.options.fields import matching
from cifar.options.splits import COLUMN, REGEX

UNMIRRORED = {
    *("MNIST", "QMNIST", "EMNIST", "KMNIST", "USPS", "SEMEION", "SVHN"),
    *("GTSRB", "RenderedSST2"),
}
"""Data sets of torchvision in which a mirrored image is another one: digits, letters, texts, traffic signs."""
WITHOUT_TEST = {"ImageNet", "Imagenette"}
"""Data sets of torchvision for classification that have a part for validation and none with labels to test on."""


@dataclass
class Arrays(Data):
    """Images in a NumPy file: data.root=FILE.npz with train_images, train_labels, optional val_, test_ (MedMNIST)."""

    loader = "cifar.data.arrays.arrays"
    measure = "cifar.data.arrays.common_size"
    has_val = "cifar.data.arrays.has_val"
    knows_content = True
    root_is = "a file .npz that holds train_images and train_labels"
    source: str = "arrays"

    def lacks_test(self) -> bool:
        try:
            with zipfile.ZipFile(Path(self.root or "").expanduser()) as archive:
                return "test_images.npy" not in archive.namelist()
        except (OSError, zipfile.BadZipFile):
            return False  # the run says what is wrong with the file


@dataclass
class Table(Data):
    """Images that a CSV file lists: data.root=FILE, columns path,label and, optionally, split (train, val, test)."""

    loader = "cifar.data.table.table"
    measure = "cifar.data.table.common_size"
    has_val = "cifar.data.table.has_val"
    listed = "cifar.data.table.listed"
    knows_content = True
    groups_by = (COLUMN, REGEX)
    root_is = "a CSV file with the columns path,label and, optionally, split"
    source: str = "csv"

    def lacks_test(self) -> bool:
        try:
            with Path(self.root or "").expanduser().open(encoding="utf-8-sig", newline="") as lines:
                return all((row.get("split") or "").strip() != "test" for row in csv.DictReader(lines))
        except (OSError, UnicodeDecodeError, csv.Error):
            return False  # the run says what is wrong with the file


@dataclass
class Torchvision(Data):
    """A data set of torchvision with labels and parts: data.dataset=FashionMNIST, SVHN, STL10, Flowers102, ...

    `kwargs`: further arguments of its class, as split of EMNIST.
    """

    loader = "cifar.data.torchvision_sets.torchvision"
    measure = "cifar.data.torchvision_sets.common_size"
    has_val = "cifar.data.torchvision_sets.has_val"
    name_key = "dataset"
    root_is = "the directory that holds the files of the data set"
    source: str = "torchvision"
    dataset: str = matching(r"[A-Za-z]\w*", "a name of torchvision.datasets, as FashionMNIST")
    kwargs: dict[str, Any] = MISSING

    @classmethod
    def suits(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return super().suits(settings) | {"flip": settings.get("dataset") not in UNMIRRORED}

    @property
    def title(self) -> str:
        return f"{self.source} {self.dataset}"

    def lacks_test(self) -> bool:
        return self.dataset in WITHOUT_TEST

"""Exact copies among the images of a run, by the digests that decoding leaves: no image is read for it."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch

from cifar.commands import module_command, override
from cifar.data.images import Images
from cifar.data.split import Splits
from cifar.options.data import Data

log = logging.getLogger(__name__)


class Copies(NamedTuple):
    """Images that are an exact copy of one before them: all, those of another class, those of val that train has."""

    duplicates: int
    conflicting: int
    in_val: int

    def __str__(self) -> str:
        if not self.duplicates:
            return "no exact duplicates"
        conflicting = f" ({self.conflicting:,} with conflicting labels)" if self.conflicting else ""
        in_val = f", {self.in_val:,} also in val" if self.in_val else ""
        return f"{self.duplicates:,} exact duplicate{'s' * (self.duplicates > 1)}{conflicting}{in_val}"


def exact_copies(train: Images, val: Images) -> Copies | None:
    """What their digests say; None where their source knows none."""
    if train.digests is None or val.digests is None:
        return None
    digests = torch.cat([train.digests, val.digests]).numpy()
    labels = torch.cat([train.labels, val.labels]).numpy()
    rows = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}")[:, 0]
    _, first, number = np.unique(rows, return_index=True, return_inverse=True)
    is_copy = first[number] != np.arange(len(rows))
    other_class = labels[first[number]] != labels
    in_train = first[number] < len(train)
    return Copies(int(is_copy.sum()), int((is_copy & other_class).sum()), int(in_train[len(train) :].sum()))


def log_exact_copies(option: Data, splits: Splits) -> None:
    """Log in one line what digests say of the images of a run, and what shows more."""
    copies = exact_copies(splits.train, splits.val)
    if copies is None:
        return
    place = [] if option.root is None else [override("data.root", option.root)]
    more = module_command("cifar.inspection", f"data={option.source}", *place)
    log.info(
        "data: %s, by content before resizing; %s shows %s",
        copies,
        more,
        "them, and what else is wrong" if copies.duplicates else "more",
    )

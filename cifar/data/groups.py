"""Groups of images that a split keeps whole, such as the pictures of one patient, or of one burst."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar.data.images import DataError, Images
from cifar.formatting import shortened

log = logging.getLogger(__name__)
NAMES_SHOWN = 3
"""File names in one message."""


def group_numbers(values: Iterable[str]) -> Tensor:
    """int64 (N,): equal values have equal numbers, in every part of the data: 63 bits of their hash."""
    numbers = [int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big") >> 1 for value in values]
    return torch.tensor(numbers, dtype=torch.int64)


def numbers_of(images: Images) -> Tensor:
    """int64 (N,): a group number for each image by itself, by its digest; copies share theirs."""
    assert images.digests is not None
    return torch.from_numpy(images.digests.numpy()[:, :8].copy().view("<i8")[:, 0].astype(np.int64) >> 1)


def joined(count: int, images: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (count,), from 0: equal for images that groups connect. images[k] is in groups[k]; both are (M,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = count + int(groups.max(initial=0)) + 1
    edges = coo_array((np.ones(len(images)), (images, count + groups)), shape=(nodes, nodes))
    component = connected_components(edges, directed=False)[1]
    return np.unique(component[:count], return_inverse=True)[1].astype(np.int64)


def groups_by_pattern(pattern: str, names: Sequence[str], part: str, files: Sequence[str] | None = None) -> Tensor:
    """int64 (N,): the groups of files by what a regular expression finds in their names, as cifar.options.splits says.

    `files` are their whole names, where `names` are parts of these. Where it finds the empty text, as PATTERN|$ does in
    other names, the file is a group by itself. So is a file of a part beside "train" where it finds nothing. Raises
    DataError where it is not in each name of the training part.
    """
    matches = [re.search(pattern, name) for name in names]
    others = [name for name, match in zip(names, matches, strict=True) if match is None]
    if others and part == "train":
        raise DataError(
            f"data.groups=regex:{pattern}: not in {len(others)} of {len(names)} file names:"
            f" {shortened(others, NAMES_SHOWN)}; allowed: a regular expression that is in each; with |$ at its"
            " end, each of these files is a group by itself"
        )
    pairs = zip(files or names, matches, strict=True)
    return group_numbers((_group(match) if match else "") or f"{part}/{file}" for file, match in pairs)


def _group(match: re.Match[str]) -> str:
    """The first capture group that took part, or else the whole match."""
    return next((text for text in match.groups() if text is not None), match[0])


def warn_of_shared_groups(images: Images, train: Images, what: str) -> None:
    """Warn of images whose group is among the images to train on too. `what`: as "test"."""
    if images.groups is None or train.groups is None:
        return
    shared = images.groups[torch.isin(images.groups, train.groups)]
    if len(shared):
        log.warning(
            "%s of %s %s images are of %d groups (data.groups) that are also among the images to train on: what is"
            " measured on these may be too good",
            *(f"{len(shared):,}", f"{len(images):,}", what, len(shared.unique())),
        )

"""Parts of images in stated shares, with whole groups, and with all classes in each part as nearly as groups allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cifar.data.images import DataError

Indices = NDArray[np.int64]


def partition(labels: Indices, groups: Indices, shares: Sequence[float], seed: int) -> Indices:
    """The part of each image (N,), from 0; `shares` (P,) of the images are wanted in the parts, and add up to 1.

    Large groups come first, those of about one size in random order, each to the part that lacks its classes most.
    It is the idea of scikit-learn's StratifiedGroupKFold, which knows equal shares only and may leave a fold empty.
    A function of the arguments. Raises DataError where a class is not in each part.
    """
    groups = np.unique(groups, return_inverse=True)[1]
    return _Partition(labels, groups, shares).run(np.random.default_rng(seed))[groups]


class _Partition:
    """Groups are given to parts. The cost of a state is the chi-squared distance of the counts to those wanted.

    Counts are of the images by part and class; the last column is of all classes.
    """

    def __init__(self, labels: Indices, groups: Indices, shares: Sequence[float]) -> None:
        sizes, totals = np.bincount(groups), np.bincount(labels)
        kinds, counts = np.unique(groups * len(totals) + labels, return_counts=True)
        ends = np.cumsum(np.bincount(kinds // len(totals), minlength=len(sizes)))[:-1]
        self.sizes = sizes
        self.classes = np.split(kinds % len(totals), ends)  # those of each group
        self.columns = [np.append(classes, len(totals)) for classes in self.classes]
        self.rows = [np.append(count, count.sum()) for count in np.split(counts, ends)]
        self.wanted = np.outer(shares, np.append(totals, len(labels)))
        self.held = np.zeros_like(self.wanted)
        self.groups_of = np.zeros(self.wanted.shape, np.int64)  # how many groups of each class a part has
        self.part = np.full(len(sizes), -1)

    def run(self, generator: np.random.Generator) -> Indices:
        """The part of each group."""
        order = generator.permutation(len(self.sizes))
        doublings = np.log2(np.maximum(self.sizes, 1)).astype(int)
        for group in order[np.argsort(-doublings[order], kind="stable")]:
            self._put(group, int(self._costs(group).argmin()))
        for label in np.argsort((self.groups_of > 0).sum(0)[:-1], kind="stable"):
            for part in np.flatnonzero(self.groups_of[:, label] == 0):
                self._bring(int(label), int(part))
        return self.part

    def _costs(self, group: int) -> NDArray[np.float64]:
        """What the group adds to the cost of each part (P,)."""
        columns, rows = self.columns[group], self.rows[group]
        wanted = self.wanted[:, columns]
        added: NDArray[np.float64] = (rows * (2 * (self.held[:, columns] - wanted) + rows) / wanted).sum(1)
        return added

    def _put(self, group: int, part: int, sign: int = 1) -> None:
        """Give a group to a part; sign -1: take it away."""
        self.held[part, self.columns[group]] += sign * self.rows[group]
        self.groups_of[part, self.columns[group]] += sign
        self.part[group] = part

    def _bring(self, label: int, part: int) -> None:
        """Move the group with that class which costs least to a part that lacks it.

        No part loses a class by that. Raises DataError where there is no such group.
        """
        best, least = -1, np.inf
        for group in [group for group, classes in enumerate(self.classes) if label in classes]:
            source = int(self.part[group])
            if source == part or (self.groups_of[source, self.classes[group]] < 2).any():
                continue
            self._put(group, source, -1)
            costs = self._costs(group)
            self._put(group, source)
            if costs[part] - costs[source] < least:
                best, least = group, costs[part] - costs[source]
        if best < 0:
            raise DataError("data.groups: no way was found to have each class on all sides of the split")
        self._put(best, int(self.part[best]), -1)
        self._put(best, part)

"""Class names of sources that have no folders: sorted, and only those of which there is an image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names in order; where all are whole numbers, as numbers."""
    ordered = sorted(names)
    if all(name.removeprefix("-").isdecimal() for name in ordered):
        ordered.sort(key=int)
    return tuple(ordered)


def named(labels: NDArray[np.int64], names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (N,), indices into names, as indices into the names that have an image; the order stays."""
    present, indices = np.unique(labels, return_inverse=True)
    return indices.astype(np.int64), tuple(names[index] for index in present)

"""What is asked of a source of images: which part of it, and the input format that its images are brought to."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cifar.data.preprocessing import InputFormat

if TYPE_CHECKING:
    from cifar.data.known import Known

OR_WITHOUT = {
    "train": "",
    "val": "; or set data.val_from=training_part",
    "test": "; or set test=false, and another data.val_from than test_part",
}
"""By part: how to do without one that is missing; the end of an error."""


@dataclass(frozen=True)
class Request:
    """`part`: "train", "val" or "test"; the others are not read.

    `in_memory`: bytes of images at most that are kept in memory; where there are more, they stay in `cache_dir`. 0: all
    do, as they are needed once. `corrected`: with data.fixes, of which groups apply in any case. `known`: the images of
    the run that this one begins with (from_run), which keep their parts. `dropped`: the names of files that data.fixes
    leaves out, so that it does not matter whether they can be read. `quiet`: log nothing, as an earlier load of this
    part has logged it.
    """

    part: str
    cache_dir: Path
    format: InputFormat = field(default_factory=InputFormat)
    in_memory: int = sys.maxsize
    corrected: bool = True
    known: Known | None = None
    dropped: frozenset[str] = frozenset()
    quiet: bool = field(default=False, compare=False)

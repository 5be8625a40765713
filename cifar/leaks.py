"""Accuracy without leaks: on the images of a part that are not, or nearly, among those to train on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar import predictions
from cifar.data.images import on_one_line, positions
from cifar.formatting import shortened
from cifar.intervals import wilson
from cifar.options.splits import EXACT
from cifar.run_data import RunData, TestData

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
SHOWN, NAMES_SHOWN = 20, 3
"""Names of leaked images in result.json, and in one message."""


def measured(run: Path, data: RunData, test: TestData | None) -> dict[str, dict[str, Any]]:
    """What without_leaks says of each part, "val" or "test", of a run directory with predictions.csv.

    Of a part without images to leave out only data.check_duplicates=near says something; of one that is not predicted
    as a whole nothing is known.
    """
    check, train = data.config.data.check_duplicates, data.splits.train
    parts = {predictions.VAL: data.splits.val} | ({predictions.TEST: test.images} if test else {})
    try:
        rows = predictions.read(run / predictions.FILE)
    except ValueError as error:
        log.warning("%s; accuracy without leaks is not known", error)
        return {}
    facts = {}
    for part, images in parts.items():
        right = [row.right for row in rows if row.part == part]
        mask = data.resources.leaked(images, train, check)
        if len(right) == len(images) and (mask.any() or check != EXACT):
            names = [name for name, leaked in zip(images.names or positions(len(images)), mask, strict=True) if leaked]
            facts[part] = without_leaks(right, mask) | {"check": check, "names": names[:SHOWN]}
            _log(part, check, facts[part], names)
    return facts


def without_leaks(right: Sequence[bool], mask: Mask) -> dict[str, Any]:
    """Accuracy with and without the images that are leaked, each with its 95% interval, low and high.

    `right`, `mask` (N,): whether each image is classified correctly, and whether it is leaked. Where all are leaked, no
    accuracy is given.
    """
    correct = np.asarray(right, bool)
    rest = {} if mask.all() else _accuracy(correct[~mask])
    return {"duplicates": int(mask.sum()), "with": _accuracy(correct), "without": rest}


def _accuracy(correct: Mask) -> dict[str, Any]:
    share = float(correct.mean())
    low, high = wilson(share, len(correct))
    return {"accuracy": share, "low": low, "high": high, "images": len(correct)}


def _log(part: str, check: str, facts: dict[str, Any], names: Sequence[str]) -> None:
    """Log what without_leaks says of a part; `names`: of the images that are leaked."""
    rest = f"; without these {_shown(facts['without'])}" if facts["without"] and names else ""
    what = "are training images too" if check == EXACT else "are or look like training images"
    listed = f": {shortened(map(on_one_line, names), NAMES_SHOWN)}" if names else ""
    log.info(
        "%s accuracy %s; %d of these images %s (data.check_duplicates=%s)%s%s",
        *(part, _shown(facts["with"]), len(names), what, check, listed, rest),
    )


def _shown(accuracy: dict[str, Any]) -> str:
    return "{accuracy:.4f} of {images} images ({low:.4f} to {high:.4f})".format(**accuracy)

"""Which images of the training part a run would validate on: by the same split, from the labels of one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cifar.data.digests import SIZE
from cifar.data.images import DataError, Images
from cifar.data.split import prepare
from cifar.data.val_part import resolved
from cifar.inspection.survey import Survey
from cifar.options.data import Data
from cifar.options.splits import TRAINING_PART


def with_validation(survey: Survey, option: Data) -> Survey:
    """The survey, with the part "val" for the images that a run validates on.

    Unreadable files are left out of the split. Where the images cannot be split, a note says so.
    """
    if resolved(option) != TRAINING_PART:
        return survey
    indices = [index for index in survey.readable.tolist() if survey.samples[index].source == "train"]
    try:
        val = prepare(_images(survey, indices), option.limit, option.val_size, option.val_seed, option.folds, option.fold).val
    except DataError as error:
        return replace(survey, notes=(*survey.notes, f"not split into training and validation images: {error}"))
    samples = list(survey.samples)
    for name in val.names:
        samples[int(name)] = samples[int(name)]._replace(part="val")
    return replace(survey, samples=samples)


def _images(survey: Survey, indices: list[int]) -> Images:
    """These samples as images without pixels; their names are their indices."""
    labels = torch.tensor([survey.classes.index(survey.samples[index].label) for index in indices])
    digests = b"".join(survey.known(index).digest for index in indices)
    return Images(
        torch.zeros(len(indices), 3, 1, 1, dtype=torch.uint8),
        labels,
        survey.classes,
        fingerprint="",
        groups=None if survey.groups is None else survey.groups[[survey.samples[index].position for index in indices]],
        names=tuple(map(str, indices)),
        digests=torch.from_numpy(np.frombuffer(digests, np.uint8).copy().reshape(-1, SIZE)),
    )

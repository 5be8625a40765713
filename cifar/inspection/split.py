"""Which images of the training part a run validates and tests on: by the same split, from the digests of one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cifar.data import content_split
from cifar.data.digests import SIZE
from cifar.data.images import DataError, Images
from cifar.data.sources import takes_test_part
from cifar.data.split import prepare
from cifar.data.val_part import resolved
from cifar.inspection.survey import Survey
from cifar.options.data import Data
from cifar.options.splits import TRAINING_PART


def with_parts(survey: Survey, option: Data) -> Survey:
    """The survey, with the parts "val" and "test" for images that a run takes from the training part.

    Unreadable files are left out of the split. Where the images cannot be split, a note says so.
    """
    indices = [index for index in survey.readable.tolist() if survey.samples[index].source == "train"]
    part_of: dict[str, str] = {}
    try:
        images = _images(survey, indices)
        if takes_test_part(option):
            images, test = content_split.split(images, option.test_size, 0, "test")
            part_of |= dict.fromkeys(test.names, "test")
        if resolved(option) == TRAINING_PART:
            settings = (option.limit, option.val_size, option.val_seed, option.folds, option.fold, option.split)
            part_of |= dict.fromkeys(prepare(images, *settings).val.names, "val")
    except DataError as error:
        return replace(survey, notes=(*survey.notes, f"not split into parts: {error}"))
    samples = list(survey.samples)
    for name, part in part_of.items():
        samples[int(name)] = samples[int(name)]._replace(part=part)
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

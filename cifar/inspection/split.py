"""What a run makes of the images that one pass showed: its parts, by the same split, and what data.fixes says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cifar.data import content_split
from cifar.data.digests import SIZE
from cifar.data.fixes import DROP, RELABEL, Fixes, corrected, grouped, read_fixes
from cifar.data.images import DataError, Images
from cifar.data.sources import takes_test_part
from cifar.data.split import prepare
from cifar.data.val_part import resolved
from cifar.inspection.survey import Survey
from cifar.options.data import Data
from cifar.options.splits import TRAINING_PART


def as_used(survey: Survey, option: Data) -> Survey:
    """The survey without what data.fixes drops, with its labels, and with the parts "val" and "test" of a run.

    Unreadable files are left out of the split. Where the images cannot be split, a note says so.
    """
    fixes = read_fixes(option.fixes)
    try:
        part_of = _parts(survey, option, fixes)
    except DataError as error:
        part_of = {}
        survey = replace(survey, notes=(*survey.notes, f"not split into parts: {error}"))
    samples = [
        sample._replace(part=part_of.get(sample.file, sample.part)) if sample.source == "train" else sample
        for sample in survey.samples
    ]
    kept = []
    for index, sample in enumerate(samples):
        actions = {fix.action: fix.label for fix in fixes.by_file.get(sample.file, ())}
        samples[index] = sample._replace(label=actions.get(RELABEL, sample.label))
        if DROP not in actions:
            kept.append(index)
    return replace(survey, samples=samples).take(kept)


def _parts(survey: Survey, option: Data, fixes: Fixes) -> dict[str, str]:
    """The part of each image, by its name, that a run takes from the training part to validate or to test on."""
    part_of: dict[str, str] = {}
    images = grouped(_images(survey), fixes)
    if takes_test_part(option):
        images, test = content_split.split(images, option.test_size, 0, "test")
        part_of |= dict.fromkeys(test.names, "test")
    if resolved(option) == TRAINING_PART:
        settings = (option.limit, option.val_size, option.val_seed, option.folds, option.fold, option.split)
        part_of |= dict.fromkeys(prepare(corrected(images, fixes, "train"), *settings).val.names, "val")
    return part_of


def _images(survey: Survey) -> Images:
    """The readable samples of the training part, as images without pixels."""
    indices = [index for index in survey.readable.tolist() if survey.samples[index].source == "train"]
    samples = [survey.samples[index] for index in indices]
    digests = b"".join(survey.known(index).digest for index in indices)
    return Images(
        torch.zeros(len(indices), 3, 1, 1, dtype=torch.uint8),
        torch.tensor([survey.classes.index(sample.label) for sample in samples]),
        survey.classes,
        fingerprint="",
        groups=None if survey.groups is None else survey.groups[[sample.position for sample in samples]],
        names=tuple(sample.file for sample in samples),
        digests=torch.from_numpy(np.frombuffer(digests, np.uint8).copy().reshape(-1, SIZE)),
    )

"""What a run's own network adds to a survey: features of a frozen backbone, and labels that it does not expect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from cifar.data.images import Images
from cifar.data.sources import takes_test_part
from cifar.inputs import cache_folder, request
from cifar.inspection.labels import suspicious, wrong_labels
from cifar.inspection.out_of_fold import Judged, features_of, judged
from cifar.inspection.split import source_of_val
from cifar.inspection.survey import Survey
from cifar.options.config import Config
from cifar.options.splits import TEST, TEST_PART, TRAIN
from cifar.options.transfer import Frozen
from cifar.resources import Resources
from cifar.run_data import load_splits

LEAST_ACCURACY = 0.6
"""The share of labels that a classifier has to agree with: see CUT in cifar.inspection.labels."""


def features(config: Config, survey: Survey, resources: Resources) -> Tensor | None:
    """The features (N, F) of the samples, computed or from the cache; None where there is no frozen backbone.

    What cannot be read, and what data.limit leaves out, has features of 0.
    """
    if not isinstance(config.transfer, Frozen):
        return None
    rows: dict[int, Tensor] = {}
    for images, source in _sources(config, survey, resources):
        indices = _indices(survey, source, images)
        rows |= dict(zip(indices, features_of(config, images, resources), strict=True))
    table = torch.zeros(len(survey.samples), len(next(iter(rows.values()))))
    for index, row in rows.items():
        table[index] = row
    return table


def _sources(config: Config, survey: Survey, resources: Resources) -> Iterator[tuple[Images, str]]:
    """The images of all parts, as a run takes them: so the cache has their features where a run has computed them."""
    splits = load_splits(config, resources)
    yield splits.train, TRAIN
    yield splits.val, source_of_val(splits)
    if splits.calibration is not None:
        yield splits.calibration, TRAIN
    if takes_test_part(config.data, cache_folder(config)):
        yield resources.images(config.data, request(config, TEST, resources)), TRAIN
    others = {sample.source for sample in survey.samples} - {TRAIN, source_of_val(splits)}
    for part in sorted(others):
        yield resources.images(config.data, request(config, part, resources)), part


def _indices(survey: Survey, source: str, images: Images) -> list[int]:
    """The indices of the samples of images of one part."""
    index_of = {sample.file: index for index, sample in enumerate(survey.samples) if sample.source == source}
    return [index_of[name] for name in images.names]


def with_suspicions(config: Config, survey: Survey, resources: Resources) -> Survey:
    """The survey with the labels that may be wrong, of images that a run trains and validates on.

    Raises DataError where the images cannot be loaded, and as `judged` does.
    """
    splits = load_splits(config, resources)
    indices = _indices(survey, TRAIN, splits.train)
    if splits.val_from != TEST_PART:
        indices += _indices(survey, source_of_val(splits), splits.val)
    judgement = judged(config, splits, resources)
    rows = suspicious(judgement.probabilities, judgement.labels)
    suspicions = tuple(replace(row, index=indices[row.index]) for row in rows)
    return replace(survey, suspicions=suspicions, notes=(*survey.notes, *_notes(config, judgement)))


def _notes(config: Config, judgement: Judged) -> Iterator[str]:
    """How far the classifier can be trusted, and, where it can, how many labels may be wrong."""
    accuracy = float((judgement.probabilities.argmax(1) == judgement.labels).mean())
    agrees = f"labels: the classifier agrees with {100 * accuracy:.0f}% of {len(judgement.labels):,}"
    if accuracy < LEAST_ACCURACY:
        remedy = "another backbone or more images" if isinstance(config.transfer, Frozen) else "transfer=frozen"
        yield f"{agrees}: too weak to judge them ({100 * LEAST_ACCURACY:.0f}% are needed); use {remedy}"
        return
    wrong = wrong_labels(judgement.probabilities, judgement.labels)
    yield f"{agrees}; about {wrong.expected:,.0f} may be wrong, {wrong.least:,.0f} at least"

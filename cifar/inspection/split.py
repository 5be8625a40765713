"""What a run makes of the images that one pass showed: its parts, and what data.fixes says."""

from __future__ import annotations

from dataclasses import replace

from cifar.data.fixes import DROP, RELABEL, read_fixes
from cifar.data.images import DataError, Images
from cifar.data.sources import takes_test_part
from cifar.data.split import Splits
from cifar.inputs import cache_folder, request
from cifar.inspection.survey import Survey
from cifar.models.weights import TransferError
from cifar.options.config import Config
from cifar.options.splits import CALIBRATION, TEST, TRAIN, VAL, VAL_PARTS
from cifar.resources import Resources
from cifar.run_data import load_splits


def as_used(survey: Survey, config: Config, resources: Resources) -> Survey:
    """The survey without what data.fixes drops, with its labels, and with the parts of a run of `config`.

    Where the images cannot be split, a note says so. What data.limit leaves out stays in the part that it came in.
    """
    fixes = read_fixes(config.data.fixes)
    try:
        part_of = {name: part for part, images in _parts(config, resources).items() for name in images.names}
    except (DataError, TransferError) as error:
        part_of = {}
        survey = replace(survey, notes=(*survey.notes, f"not split into parts: {error}"))
    kept, samples = [], []
    for index, sample in enumerate(survey.samples):
        actions = {fix.action: fix.label for fix in fixes.by_file.get(sample.file, ())}
        part = part_of.get(sample.file, sample.part) if sample.source == TRAIN else sample.part
        samples.append(sample._replace(part=part, label=actions.get(RELABEL, sample.label)))
        if DROP not in actions:
            kept.append(index)
    return replace(survey, samples=samples, fixes=tuple(fixes.all())).take(kept)


def _parts(config: Config, resources: Resources) -> dict[str, Images]:
    """The images that a run takes from those that came as the training part, and does not train on."""
    splits = load_splits(config, resources)
    parts = {VAL: splits.val} if source_of_val(splits) == TRAIN else {}
    if splits.calibration is not None:
        parts[CALIBRATION] = splits.calibration
    if takes_test_part(config.data, cache_folder(config)):
        parts[TEST] = resources.images(config.data, request(config, TEST, resources))
    return parts


def source_of_val(splits: Splits) -> str:
    """The part that the validation images came in."""
    return VAL_PARTS.get(splits.val_from, TRAIN)

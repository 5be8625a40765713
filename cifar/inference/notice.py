"""What a person has to know of a model before they read its predictions."""

from __future__ import annotations

from collections.abc import Iterator

from cifar.inference.model import ExportedModel, Model
from cifar.inference.tta import IN_WORDS
from cifar.options.restored import of_run


def notice(model: Model, tta: str) -> Iterator[str]:
    """Why this model, what it takes, whether its probabilities are calibrated, and what is averaged; in lines."""
    if model.chosen.reason:
        yield model.chosen.reason
    size = model.format.size
    words = [str(model.chosen.file), f"{len(model.classes)} classes", f"{size}x{size} pixels", _calibration(model)]
    if isinstance(model, ExportedModel) and "precision" in model.metadata:
        words.append(model.metadata["precision"])
    yield " · ".join([*words, IN_WORDS[tta]] if tta != "none" else words)
    if tta != "none" and was_trained_without_mirror_images(model):
        yield f"--tta {tta}: the model was trained with augment.flip=false, so mirror images may be unlike its classes"


def _calibration(model: Model) -> str:
    if model.temperature is None:
        return "calibrated: no, as it was trained by an earlier version"
    return f"calibrated: temperature {model.temperature:.3f}"


def was_trained_without_mirror_images(model: Model) -> bool:
    """Whether the settings beside a best.pt say so; they are not known of an exported model."""
    return of_run(str(model.chosen.file.parent)).get("augment.flip") is False

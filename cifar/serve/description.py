"""What the page and GET /model say about the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cifar.inference.model import Model, TrainedModel
from cifar.results import ResultsError, read_result
from cifar.serve.limits import MAX_IMAGES, MAX_PIXELS
from cifar.serve.predictor import FORMATS


def describe(model: Model, max_megabytes: float) -> dict[str, Any]:
    """As JSON: which model it is and why this one, its classes, its accuracy where known, and what may be sent."""
    file = model.chosen.file.resolve()
    study = model.chosen.study
    return {
        "name": file.parent.name if study is None else f"{study.resolve().name}, run {file.parent.name}",
        "source": "/".join(file.parts[-3:]),
        "reason": model.chosen.reason,
        "classes": list(model.classes),
        "size": model.format.size,
        "input": model.format.change,
        "accuracy": accuracy(file.parent),
        "calibrated": is_calibrated(model),
        "limits": {
            "megabytes": max_megabytes,
            "megapixels": MAX_PIXELS / 1e6,
            "images": MAX_IMAGES,
            "formats": list(FORMATS),
        },
    }


def accuracy(folder: Path) -> dict[str, dict[str, float | int]]:
    """By "test" and "validation": the share of images that were classified correctly, and how many there were.

    Empty where no result.json says so.
    """
    try:
        result = read_result(folder)
        best, data, test = result.get("best") or {}, result.get("data") or {}, result.get("test") or {}
        rows = {
            "test": (test.get("accuracy"), test.get("images")),
            "validation": (best.get("val_accuracy"), data.get("val", {}).get("images")),
        }
    except (ResultsError, AttributeError):  # AttributeError: a file of another program
        return {}
    return {
        part: {"accuracy": share, "images": images}
        for part, (share, images) in rows.items()
        if isinstance(share, float) and isinstance(images, int)
    }


def is_calibrated(model: Model) -> bool | None:
    """Whether its probabilities were adjusted on validation images; None: not known, as of an exported model."""
    return model.classifier.temperature != 1 if isinstance(model, TrainedModel) else None

"""What the page and GET /model say about the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cifar.inference.chosen import read_test
from cifar.inference.model import ExportedModel, Model
from cifar.results import ResultsError, read_result
from cifar.serve.limits import MAX_IMAGES, MAX_PIXELS
from cifar.serve.predictor import FORMATS


def model_facts(model: Model, max_megabytes: float) -> dict[str, Any]:
    """As JSON: which model it is and why this one, its classes, its accuracy where known, and what may be sent."""
    file = model.chosen.file.resolve()
    study = model.chosen.study
    return {
        "name": file.parent.name if study is None else study.resolve().name,
        "source": "/".join(file.parts[-3:]),
        "reason": model.chosen.reason,
        "classes": list(model.classes),
        "size": model.format.size,
        "input": model.format.change,
        "accuracy": accuracy(model),
        "calibrated": model.temperature is not None,
        "limits": {
            "megabytes": max_megabytes,
            "megapixels": MAX_PIXELS / 1e6,
            "images": MAX_IMAGES,
            "formats": list(FORMATS),
        },
    }


def accuracy(model: Model) -> dict[str, dict[str, float | int | None]]:
    """By "test" and "validation": the share of images that were classified correctly, and of how many where known.

    From the result.json beside the model, or from what an exported model holds; empty where neither says so.
    """
    try:
        result = read_result(model.chosen.file.parent)
        best, data, test = result.get("best") or {}, result.get("data") or {}, read_test(model.chosen) or {}
        rows = {
            "test": (test.get("accuracy"), test.get("images")),
            "validation": (best.get("val_accuracy"), data.get("val", {}).get("images")),
        }
    except (ResultsError, AttributeError):  # AttributeError: a file of another program
        exported = model.metadata if isinstance(model, ExportedModel) else {}
        rows = {part: _exported_accuracy(exported, part) for part in ("test", "validation")}
    return {part: {"accuracy": share, "images": images} for part, (share, images) in rows.items() if share is not None}


def _exported_accuracy(exported: Mapping[str, str], part: str) -> tuple[float | None, int | None]:
    images = _number(exported.get(f"{part}_images"))
    return _number(exported.get(f"{part}_accuracy")), None if images is None else int(images)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None

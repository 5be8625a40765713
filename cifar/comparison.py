"""A run that began with another (from_run), compared with it: which images it has, and which model is better.

Models are compared on images that neither was trained on. Kept validation images chose the best epoch of both, new ones
that of the new model, so what they say is an estimate; test images chose nothing.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cifar.data.images import Images
from cifar.data.known import NEW, hex_digests
from cifar.data.split import Splits
from cifar.formatting import shortened
from cifar.initial import Initial
from cifar.intervals import paired_difference
from cifar.options.splits import TRAIN, VAL
from cifar.resources import Resources
from cifar.tasks import Task
from cifar.trained import loaded_classifier
from cifar.training.step import autocast

log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
KEPT_VAL, NEW_VAL, ALL_VAL, TEST = "kept validation", "new validation", "validation", "test"
"""The images on which models are compared."""
NAMES_SHOWN = 5


def images_facts(initial: Initial, images: Images, splits: Splits) -> dict[str, Any]:
    """What result.json says of the images that the earlier run knew. `images`: the training part, which was split."""
    known = initial.known
    used = [part for part in (splits.train, splits.val, splits.calibration) if part is not None]
    added = [int((known.parts(part) == NEW).sum()) for part in used]
    present = {digest for part in used for digest in hex_digests(part)}
    left_out = [digest for digest in hex_digests(images) if digest in known.images and digest not in present]
    return {
        "images": {
            "kept": sum(map(len, used)) - sum(added),
            "added": sum(added),
            "added_to_val": added[1],
            "removed": known.removed(present.union(left_out)),
            "left_out": len(left_out),
            "relabelled": sum(map(known.relabelled, used)),
        },
        "classes": {
            "added": [name for name in splits.train.classes if name not in initial.classes],
            "removed": [name for name in initial.classes if name not in splits.train.classes],
        },
    }


def facts_text(facts: dict[str, Any]) -> str:
    """What images_facts returns, in words."""
    images, classes = facts["images"], facts["classes"]
    added = f"{images['added']} added ({images['added_to_val']} of these to validate on)"
    counts = f"{images['kept']} images kept, {added}, {images['removed']} removed, {images['relabelled']} relabelled"
    if images["left_out"]:
        counts += f", {images['left_out']} left out, as they were in another part, or by data.limit"
    of_classes = "; ".join(
        f"classes {what}: {shortened(classes[what], NAMES_SHOWN)}" for what in ("added", "removed") if classes[what]
    )
    return f"{counts}; {of_classes or 'the same classes'}"


def compared(
    initial: Initial, task: Task, model: nn.Module, val: Images, test: Images | None, resources: Resources
) -> dict[str, Any]:
    """What result.json says of the earlier model beside the present one, `model`.

    `rows`: on images of classes that both know. `new_classes`: the accuracy of the present model on each of the others.
    """
    earlier = loaded_classifier(initial.best, initial.path, resources).model.to(task.train.labels.device)
    parts = [(val, _masks_of_val(initial.known.parts(val)))]
    if test is not None:
        parts.append((test, {TEST: ~np.isin(initial.known.parts(test), (TRAIN, VAL))}))  # VAL chose its epoch
    rows: list[dict[str, Any]] = []
    new_classes: list[dict[str, Any]] = []
    for images, masks in parts:
        before = _is_right(task, earlier, images, initial.classes)
        after = _is_right(task, model, images, images.classes)
        shared = np.isin(_labels(images), initial.classes)
        for name, mask in masks.items():
            rows += _row(name, before[mask & shared], after[mask & shared])
        new_classes += _of_new_classes(initial, images, after, TEST if images is test else ALL_VAL)
    return {"rows": rows, "new_classes": new_classes}


def _masks_of_val(parts: NDArray[np.str_]) -> dict[str, Mask]:
    return {KEPT_VAL: parts == VAL, NEW_VAL: (parts != VAL) & (parts != TRAIN), ALL_VAL: parts != TRAIN}


def _row(name: str, before: Mask, after: Mask) -> list[dict[str, Any]]:
    if not len(before):
        return []
    difference, low, high = paired_difference(before, after)
    accuracies = {"before": float(before.mean()), "after": float(after.mean())}
    return [
        {"images_of": name, "images": len(before), **accuracies, "difference": difference, "low": low, "high": high}
    ]


def _of_new_classes(initial: Initial, images: Images, after: Mask, name: str) -> list[dict[str, Any]]:
    labels, rows = _labels(images), []
    for label in images.present_classes():
        if label not in initial.classes:
            right = after[labels == label]
            rows.append({"class": label, "images_of": name, "images": len(right), "accuracy": float(right.mean())})
    return rows


def _labels(images: Images) -> NDArray[np.str_]:
    labels: NDArray[np.str_] = np.array(images.classes)[images.labels.numpy()]
    return labels


@torch.inference_mode()
def _is_right(task: Task, model: nn.Module, images: Images, classes: tuple[str, ...]) -> Mask:
    """Whether a model of these classes is right on each image (N,)."""
    cast = autocast(task.train.labels.device, task.dtype)
    model.eval()
    predicted = []
    for batch, _ in task.evaluation(images).epoch(1):
        with cast():
            predicted.append(model(batch).argmax(1).cpu())
    right: Mask = np.array(classes)[torch.cat(predicted).numpy()] == _labels(images)
    return right


def log_comparison(facts: dict[str, Any]) -> None:
    """Log what `compared` returned, on test images where there are some."""
    rows = {row["images_of"]: row for row in facts["rows"]}
    row = rows.get(TEST) or rows.get(ALL_VAL)
    if row is not None:
        estimated = "" if row["images_of"] == TEST else "; estimated, as validation images chose the epochs"
        log.info(
            "%d %s images that neither model was trained on: accuracy %.4f before, %.4f now, %+.4f [%+.4f, %+.4f]%s",
            *(row[key] for key in ("images", "images_of", "before", "after", "difference", "low", "high")),
            estimated,
        )
    for new in facts["new_classes"]:
        log.info(
            "new class %s: accuracy %.4f of %d %s images",
            *(new[key] for key in ("class", "accuracy", "images", "images_of")),
        )

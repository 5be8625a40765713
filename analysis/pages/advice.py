"""What to do after a run, by how it learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cifar.intervals import wilson


def after_training(row: pd.Series[Any]) -> str:
    """`row` is one of statistics.learning.diagnosis."""
    if row.diverged:
        return "It diverged: try a learning rate of a tenth."
    if row.overfitting:
        return "It overfits: try more weight decay, more augmentation, or fewer epochs."
    if row.improving:
        return "It was still improving: train for longer."
    return "It had stopped improving, without overfitting: more epochs of the same are unlikely to help."


def on_guessing(classes: pd.DataFrame | None) -> list[str]:
    """Whether a run is no better than a guess; nothing where that is not known.

    `classes`, as classes.csv has them: the mean of the recalls is 1/K for any guess among K classes.
    """
    if classes is None or not classes.recall.notna().any():
        return []
    known = classes[classes.recall.notna()]
    recall, guess = known.recall.mean(), 1 / len(classes)
    deviation = np.sqrt((known.recall * (1 - known.recall) / known.images).sum()) / len(known)
    if recall - 1.96 * deviation > guess:
        return []
    return [
        f"It has hardly learned anything: its balanced accuracy {recall:.4f} is not surely above that of a guess"
        f" ({guess:.4f}). Train for longer, with another learning rate or on more images; until then its mistakes"
        " say little of the images."
    ]


def on_generalization(epochs: pd.DataFrame, images: Any) -> list[str]:
    """Whether the training accuracy ends above the interval of the validation accuracy; nothing where unknown.

    `images` is the number of validation images, or NA.
    """
    last = epochs.iloc[-1]
    if pd.isna(images) or not 0 <= last.val_accuracy <= 1:
        return []
    _, high = wilson(last.val_accuracy, int(images))
    training = f"Training accuracy ends at {last.train_accuracy:.4f}"
    interval = f"the interval of validation accuracy (to {high:.4f})"
    if last.train_accuracy > high:
        return [f"{training}, above {interval}: regularisation or more data may help."]
    return [f"{training}, not above {interval}: a larger model may help."]

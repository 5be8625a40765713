"""What a run that has ended keeps in best.pt, so that `predict` can say what is unsure and what is unlike training.

It is measured on the calibration images where the run has some, which chose nothing: the temperature is fitted on the
validation images, as it would depend on the same mistakes as the thresholds otherwise. Without calibration images it
is measured on those for validation, which chose the epoch and the temperature, and is called an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cifar.classifier import calibrated
from cifar.data.loader import EpochLoader
from cifar.data.split import Splits
from cifar.errors import UserError
from cifar.tasks import Task
from cifar.unlike import IMAGES, Neighbours, head_of, with_features
from cifar.unsure import Outcomes, Reliability

State = dict[str, Any]


class ReliabilityError(UserError):
    """A model of which it cannot be known when it is right."""


def measured(task: Task, model: nn.Module, val: EpochLoader, splits: Splits, temperature: float | None) -> State:
    """For best.pt: what its weights, which `model` has, give for the calibration images, else for those of `val`.

    Raises ReliabilityError where these are not finite numbers.
    """
    head = head_of(model, len(splits.train.classes))
    sample = torch.cat([features for _, features in _outputs(model, head, task.sample(IMAGES))])
    if not sample.isfinite().all():
        raise ReliabilityError("what the last layer receives for training images is not finite in fp32")
    neighbours = Neighbours.of(sample)
    part, images = splits.held_out()
    batches = val if images is splits.val else task.evaluation(images)
    rows = [
        (calibrated(logits, temperature), neighbours(features)) for logits, features in _outputs(model, head, batches)
    ]
    probabilities, distances = (torch.cat(column) for column in zip(*rows, strict=True))
    if not (probabilities.isfinite().all() and distances.isfinite().all()):
        raise ReliabilityError(f"the model's outputs for {part} images are not finite in fp32")
    labels = batches.labels.cpu().numpy()
    return _state(Reliability.of(part, probabilities.numpy(), labels, distances.numpy()), neighbours)


@torch.inference_mode()
def _outputs(model: nn.Module, head: nn.Module | None, batches: EpochLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (B, classes) and features (B, F) of each batch, in fp32 as when the model is used, on the CPU."""
    model.eval()
    for inputs, _ in batches.epoch(1):
        logits, features = with_features(model, head, inputs)
        yield logits.float().cpu(), features.float().cpu()


def _state(reliability: Reliability, neighbours: Neighbours) -> State:
    """As a file of PyTorch can hold it. Images are in the order of their probabilities, the surest first."""
    outcomes = reliability.thresholds
    assert isinstance(outcomes, Outcomes)
    order = np.argsort(-outcomes.probabilities, kind="stable")
    return {
        "part": outcomes.part,
        "probabilities": torch.from_numpy(outcomes.probabilities[order].astype(np.float32)),
        "right": torch.from_numpy(outcomes.right[order].astype(np.bool_)),
        "distance": reliability.largest,
        "neighbours": {name: tensor.half() for name, tensor in neighbours.named_buffers()},
    }


def restored(state: State) -> Reliability:
    """What a best.pt says as its "reliability", which it has once its run has ended."""
    outcomes = Outcomes(state["part"], len(state["right"]), state["probabilities"].numpy(), state["right"].numpy())
    return Reliability(outcomes, state["distance"])

"""What a run that has ended keeps in best.pt, so that `predict` can say what is unsure and what is unlike training.

It is measured on the calibration images where the run has some, which chose nothing: the temperature is fitted on the
validation images, as it would depend on the same mistakes as the thresholds otherwise. Without calibration images it
is measured on those for validation, which chose the epoch and the temperature, and is called an estimate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cifar.classifier import calibrated
from cifar.data.loader import EpochLoader
from cifar.data.split import Splits
from cifar.tasks import Task
from cifar.unlike import IMAGES, Neighbours, head_of, with_features
from cifar.unsure import CALIBRATION, VALIDATION, Outcomes, Reliability

State = dict[str, Any]


def measured(task: Task, model: nn.Module, val: EpochLoader, splits: Splits, temperature: float | None) -> State:
    """For best.pt: what its weights, which `model` has, give for the calibration images, else for those of `val`."""
    head = head_of(model, len(splits.train.classes))
    neighbours = Neighbours.of(_outputs(model, head, task.sample(IMAGES))[1])
    is_apart = splits.calibration is not None
    batches = task.evaluation(splits.calibration) if splits.calibration is not None else val
    logits, features = _outputs(model, head, batches)
    probabilities, labels = calibrated(logits, temperature).numpy(), batches.labels.cpu().numpy()
    part = CALIBRATION if is_apart else VALIDATION
    return _state(Reliability.of(part, probabilities, labels, neighbours(features).numpy()), neighbours)


@torch.inference_mode()
def _outputs(model: nn.Module, head: nn.Module | None, batches: EpochLoader) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) and features (N, F), in fp32 as when the model is used, on the CPU."""
    model.eval()
    rows = [[output.float().cpu() for output in with_features(model, head, inputs)] for inputs, _ in batches.epoch(1)]
    logits, features = zip(*rows, strict=True)
    return torch.cat(logits), torch.cat(features)


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

"""The classifier in a best.pt, whichever task it was trained by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar import saved
from cifar.classifier import Classifier
from cifar.models.build import one_line
from cifar.resources import SHARED, Resources
from cifar.tasks import task_class
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError
from cifar.unlike import Neighbours


def load_classifier(path: Path | str, resources: Resources = SHARED) -> Classifier:
    """The model in a run's best.pt, on the CPU. The weights of a frozen backbone are read from where the run read them.

    Raises CheckpointError, and TransferError where those weights are missing or are other ones.
    """
    return loaded_classifier(checkpoint.load(Path(path)), path, resources)


def loaded_classifier(best: dict[str, Any], path: Path | str, resources: Resources) -> Classifier:
    """The model in the content of the best.pt at `path`. Raises as load_classifier does."""
    try:
        classifier = classifier_of(best, resources)
        checkpoint.load_weights(classifier.model, best["model"], Path(path))
    except KeyError as error:
        raise CheckpointError(f"{path}: not a best.pt of this program ({error} is missing)") from None
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a best.pt of this program ({one_line(error)})") from None
    return classifier


def classifier_of(best: dict[str, Any], resources: Resources, whole: bool = False) -> Classifier:
    """The classifier that the content of a best.pt describes, with the weights of its `model` still to be loaded.

    `whole`: those of its `network`, which are more where a backbone is frozen. Raises as Task.load does.
    """
    upgraded = saved.upgraded(best)
    task = task_class(upgraded["transfer"]["mode"])
    classifier = task.skeleton(upgraded, resources) if whole else task.load(upgraded, resources)
    classifier.network.eval()
    calibration = best.get("calibration") or {}  # earlier versions have none
    neighbours = saved_neighbours(best.get("reliability"))
    return dataclasses.replace(classifier, temperature=calibration.get("temperature"), neighbours=neighbours)


def saved_neighbours(reliability: Mapping[str, Any] | None) -> Neighbours | None:
    """Those in a best.pt; None where its run has not ended, or was of an earlier version."""
    if reliability is None:
        return None
    tensors = reliability["neighbours"]
    return Neighbours(tensors["directions"].float(), tensors["rows"].float())

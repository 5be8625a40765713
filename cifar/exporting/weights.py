"""A network and all its weights from one exported file of safetensors.

classifier = load_safetensors("model.safetensors")
classifier.predict(images)
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from cifar.classifier import Classifier
from cifar.resources import Resources
from cifar.trained import classifier_of
from cifar.training.checkpoint import CheckpointError, load_weights


def load_safetensors(path: str | Path) -> Classifier:
    """The model that `python -m cifar.export --format safetensors` wrote, on the CPU; a backbone's weights included.

    Raises CheckpointError for a file that is damaged or of another program, and ConfigError for a model of a module
    that is not trusted.
    """
    path = Path(path)
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
        classifier = classifier_of(json.loads(metadata["build"]), Resources(), whole=True)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path}: not a model that this program exported ({reason})") from None
    load_weights(classifier.network, load_file(str(path)), path)
    return classifier

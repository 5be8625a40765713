"""What is exported: a trained model, with what its run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cifar import metadata
from cifar.classifier import Classifier, calibrated
from cifar.compose import recorded_config, recorded_splits
from cifar.errors import UserError
from cifar.exporting.public import public_transfer, settings_fingerprint
from cifar.inference.chosen import read_test
from cifar.inference.model import TrainedModel, load_model, onnx_metadata
from cifar.options.config import Config
from cifar.options.outside import check_outside
from cifar.results import ResultsError, read_result
from cifar.unlike import Neighbours, with_features

MAX_CHECKED = 1000
"""Images that an export is checked on, at most: a backbone takes 50 ms an image on a CPU."""
RANDOM_IMAGES, GREY_IMAGES = 48, 16


class ExportError(UserError):
    """A model that cannot be exported, or a place that cannot be written to."""


class Probabilities(nn.Module):
    """uint8 (B, 3, size, size) -> float32 (B, classes), rows that sum to 1: all that an exported model does."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.network
        self.temperature = classifier.temperature

    def forward(self, images: Tensor) -> Tensor:
        return calibrated(self.network(images), self.temperature)


class Measured(Probabilities):
    """uint8 (B, 3, size, size) -> probabilities (B, classes), and distances (B,) to training images (cifar.unlike)."""

    def __init__(self, classifier: Classifier, neighbours: Neighbours) -> None:
        super().__init__(classifier)
        self.neighbours = neighbours
        self.heads = (classifier.head,)  # a tuple, as it is a part of the network already

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits, features = with_features(self.network, self.heads[0], images)
        return calibrated(logits, self.temperature), self.neighbours(features)


@dataclass(frozen=True)
class CheckImages:
    """The images that an export is checked on, uint8 (N, 3, size, size), and what they are, in words.

    `labels`: int64 (N,), of validation images; None of others. `reason`: why these are no validation images; it may
    name places on this machine.
    """

    images: Tensor
    name: str
    labels: Tensor | None = None
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """A trained model and its run; `result` is empty and `config` None where the run's directory lacks them."""

    model: TrainedModel
    result: Mapping[str, Any]
    config: Config | None

    @property
    def run(self) -> Path:
        return self.model.chosen.file.parent

    @property
    def network(self) -> Probabilities:
        return Probabilities(self.model.classifier).eval()

    def check_outside(self, outputs: Mapping[str, Path]) -> None:
        """Raises ConfigError where one would be written into the folder of images that the run was trained on."""
        if self.config is not None:
            check_outside(self.config.data.never_written, outputs)

    @property
    def measured(self) -> Probabilities:
        """The same, with the distances where the training images are known: those of earlier versions are not."""
        classifier = self.model.classifier
        if classifier.neighbours is None:
            return self.network
        return Measured(classifier, classifier.neighbours).eval()

    def example(self) -> Tensor:
        """Two random images: of a batch of one, the exporter might take the size as fixed."""
        return random_images(2, self.model.format.size)

    def description(self) -> dict[str, Any]:
        """What best.pt says of how the network is built, with no path of this machine."""
        description = self.model.description
        return {**description, "transfer": public_transfer(description["transfer"])}


def read_source(place: str) -> Source:
    """The trained model that a place names. Raises ExportError for one that is exported already, else as load_model."""
    model = load_model(place, "cpu")
    if not isinstance(model, TrainedModel):
        raise ExportError(f"{place}: an exported model; allowed: a run, a study or a best.pt")
    run = model.chosen.file.parent
    try:
        result = read_result(run)
    except ResultsError:
        result = {}
    try:
        config = recorded_config(run)
    except UserError:
        config = None
    return Source(model, result, config)


def random_images(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def check_images(source: Source) -> CheckImages:
    """The validation images of the run; where they are not at hand, random and grey images."""
    try:
        val = recorded_splits(source.run).val
    except UserError as error:
        size = source.model.format.size
        levels = torch.linspace(0, 255, GREY_IMAGES).to(torch.uint8)
        grey = levels.view(-1, 1, 1, 1).expand(-1, 3, size, size)
        reason = str(error).partition("; allowed")[0]
        name = "random and grey images, as the validation images are not at hand"
        return CheckImages(torch.cat([random_images(RANDOM_IMAGES, size), grey]), name, reason=reason)
    chosen = val.sample(MAX_CHECKED)
    return CheckImages(chosen.images[0 : len(chosen)], "validation images", chosen.labels)


def provenance(source: Source) -> dict[str, str]:
    """What the metadata of an exported model hold: how it is used and where it is from, as far as that is known."""
    result, classifier = source.result, source.model.classifier
    data: Mapping[str, Any] = result.get("data") or {}
    best: Mapping[str, Any] = result.get("best") or {}
    test: Mapping[str, Any] = read_test(source.model.chosen) or {}
    facts = {
        "program": metadata.program_name(),
        "exported": date.today().isoformat(),
        "exported_by_commit": metadata.git_commit(),
        "trained_by_commit": result.get("git"),
        "settings_sha256": settings_fingerprint(source.config) if source.config else None,
        "data_fingerprint": data.get("fingerprint"),
        "validation_accuracy": best.get("val_accuracy"),
        "validation_images": (data.get("val") or {}).get("images"),
        "test_accuracy": test.get("accuracy"),
        "test_images": test.get("images"),
        "epoch": best.get("epoch"),
        "temperature": classifier.temperature,
    }
    known = {key: str(value) for key, value in facts.items() if value is not None}
    reliability = source.model.reliability
    when_right = {} if reliability is None else reliability.metadata()
    return onnx_metadata(source.model.classes, source.model.format) | known | when_right

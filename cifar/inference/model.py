"""A trained model that is used: of a run, of a study or exported, with one interface.

model = load_model("sweeps/NAME")
images = model.read(["cat.jpg", "dog.png"])
model.predict(images)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cifar.classifier import Classifier, calibrated, check_images
from cifar.cores import available_cores
from cifar.data.preprocessing import InputFormat
from cifar.errors import UserError
from cifar.formatting import first_line
from cifar.inference.chosen import Chosen, choose
from cifar.inference.reading import read_image, to_tensor
from cifar.inference.tta import averaged
from cifar.packages import require
from cifar.reliability import restored
from cifar.resources import Resources
from cifar.trained import loaded_classifier
from cifar.training import checkpoint
from cifar.training.device import set_up_device
from cifar.unsure import Reliability

ON_CPU = ("auto", "cpu")
"""The devices on which an exported model may be asked to run."""


CPU_FACTS = Path("/proc/cpuinfo")
EXACT_INT8 = ("session.x64quantprecision", "1")
"""The option of onnxruntime for int8 models on x86 CPUs without VNNI, where sums of two products saturate at 16 bits.

With VNNI the results are the same without it, bit for bit, and it doubles the time (an EfficientNet-Lite0, a resnet14).
"""


class ModelError(UserError):
    """An exported model that cannot be used here."""


@dataclass(frozen=True)
class Assessment:
    """What a model gives for images: probabilities float32 (B, classes), rows that sum to 1, and distances (B,).

    The latter are those of the images, as they are, to those of training (cifar.unlike); NaN where they are not known.
    """

    probabilities: Tensor
    distances: Tensor


@dataclass(frozen=True)
class Model(ABC):
    """A trained model. Image files are brought to `format`; `chosen` says where it is from, and why this one.

    `temperature`: by which its probabilities are calibrated on validation images; None: they are not. `reliability`:
    when a prediction is unsure, and an image unlike those of training; None: that is not known.
    """

    chosen: Chosen
    classes: tuple[str, ...]
    format: InputFormat
    temperature: float | None
    reliability: Reliability | None = field(default=None, kw_only=True, repr=False)

    def probabilities(self, images: Tensor, tta: str = "none") -> Tensor:
        """Those of `assess`."""
        return self.assess(images, tta).probabilities

    def assess(self, images: Tensor, tta: str = "none") -> Assessment:
        """Of images uint8 (B, 3, size, size). Raises InputError, and ModelError where weights give no finite numbers.

        `tta`: a name in cifar.inference.tta.TTA, the probabilities of whose views of an image are averaged.
        """
        check_images(images, self.format.size)
        if not len(images):
            return Assessment(torch.zeros(0, len(self.classes)), torch.zeros(0))
        views: list[Assessment] = []  # the first is the image as it is

        def probabilities(view: Tensor) -> Tensor:
            views.append(self._assess(view))
            return views[-1].probabilities

        mean = averaged(probabilities, images, tta)
        if not mean.isfinite().all():
            raise ModelError(f"{self.chosen.file}: gives numbers that are not finite; its weights are damaged")
        return Assessment(mean, views[0].distances)

    @abstractmethod
    def _assess(self, images: Tensor) -> Assessment:
        """Of images that were checked, at least one; on the CPU."""

    def predict(self, images: Tensor, tta: str = "none") -> list[str]:
        """The most likely class of each image. Raises InputError as `probabilities` does."""
        return [self.classes[index] for index in self.probabilities(images, tta).argmax(1).tolist()]

    def read(self, paths: Iterable[str | Path]) -> Tensor:
        """The images in files, uint8 (B, 3, size, size), as in training. Raises DataError for the first unreadable."""
        images = [read_image(Path(path), self.format) for path in paths]
        size = self.format.size
        return to_tensor(images) if images else torch.zeros(0, 3, size, size, dtype=torch.uint8)


@dataclass(frozen=True)
class TrainedModel(Model):
    """The model in a best.pt, on `device`. `description`: what that file holds besides the weights."""

    classifier: Classifier
    device: torch.device
    description: Mapping[str, Any] = field(repr=False)

    def _assess(self, images: Tensor) -> Assessment:
        logits, distances = self.classifier.outputs(images.to(self.device))
        return Assessment(calibrated(logits, self.temperature).cpu(), distances.cpu())


@dataclass(frozen=True)
class ExportedModel(Model):
    """An exported model, run by onnxruntime on the CPU. `metadata`: what it holds besides its weights."""

    metadata: Mapping[str, str]
    session: Any = field(repr=False)

    def _assess(self, images: Tensor) -> Assessment:
        probabilities, *others = self.session.run(None, {"images": images.contiguous().numpy()})
        distances = torch.from_numpy(others[0]) if others else torch.full((len(images),), float("nan"))
        return Assessment(torch.from_numpy(probabilities), distances)


def load_model(place: str | Path, device: str = "auto") -> Model:
    """The model of a run, a study (its confirmed trial, else its best one), a best.pt, a bundle or an exported model.

    Raises PlaceError, CheckpointError, TransferError, ModelError, PackageError, and ConfigError for a device that is
    not there.
    """
    chosen = choose(place)
    if chosen.file.suffix == ".onnx":
        if device not in ON_CPU:
            raise ModelError(
                f"--device {device}: {chosen.file} is an exported model, which runs on the CPU; allowed:"
                f" {', '.join(ON_CPU)}"
            )
        return _exported(chosen)
    on = set_up_device(device, None, True)
    best = checkpoint.load(chosen.file)
    classifier = loaded_classifier(best, chosen.file, Resources()).to(on)
    description = {key: value for key, value in best.items() if key not in ("model", "reliability")}
    facts = (classifier.classes, classifier.format, classifier.temperature)
    state = best.get("reliability")
    reliability = None if state is None else restored(state)
    return TrainedModel(chosen, *facts, classifier, on, description, reliability=reliability)


def open_session(file: Path) -> Any:
    """The onnxruntime.InferenceSession of a file, on the CPU cores that this process may use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    if not has_vnni():
        options.add_session_config_entry(*EXACT_INT8)
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def has_vnni() -> bool:
    """Whether the CPU is known to add products of int8 in 32 bits; False where that is not known."""
    try:
        return "vnni" in CPU_FACTS.read_text()
    except OSError:
        return False


def onnx_metadata(classes: Iterable[str], format: InputFormat) -> dict[str, str]:
    """What ExportedModel needs of an exported model, as its metadata hold it."""
    return {"classes": json.dumps(list(classes)), "input": json.dumps(asdict(format))}


def _exported(chosen: Chosen) -> ExportedModel:
    require(str(chosen.file), "export", "onnxruntime", alternative=", or name the run that it was exported from")
    try:
        session = open_session(chosen.file)
        metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        classes, format = tuple(json.loads(metadata["classes"])), InputFormat(**json.loads(metadata["input"]))
        temperature = float(metadata["temperature"]) if "temperature" in metadata else None
        reliability = Reliability.from_metadata(metadata)
        shapes = session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[1:]
        if shapes != ([3, format.size, format.size], [len(classes)]):
            raise ValueError(f"its classes and its size are not those of its network: {shapes}")
    except Exception as error:  # the errors of onnxruntime share no base
        raise ModelError(f"{chosen.file}: not a model that this program exported ({first_line(error)})") from None
    return ExportedModel(chosen, classes, format, temperature, metadata, session, reliability=reliability)

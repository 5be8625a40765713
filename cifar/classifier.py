"""A trained model with its preprocessing: what the file best.pt of a run describes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cifar.data.preprocessing import InputFormat
from cifar.errors import UserError
from cifar.models.preprocess import Preprocess
from cifar.unlike import Neighbours, head_of, with_features


class InputError(UserError):
    """What is no batch of images of the size that the model was trained on."""


def check_images(images: Any, size: int) -> None:
    """Raises InputError for what is not uint8 (B, 3, size, size): a network would answer, but not what is asked."""
    expected = (3, size, size)
    is_batch = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape[1:] == expected
    if is_batch and images.dim() == 4:
        return
    what = type(images).__name__
    if isinstance(images, Tensor):
        dtype = str(images.dtype).removeprefix("torch.")
        what = f"a tensor {dtype} ({', '.join(map(str, images.shape))})"
    raise InputError(
        f"images: {what}; allowed: a tensor uint8 (B, 3, {size}, {size}), RGB from 0 to 255, as the model was trained"
        f" on; {_remedy(images, size)}"
    )


def _remedy(images: Any, size: int) -> str:
    """How to make a batch of what is none."""
    if not isinstance(images, Tensor):
        return "an array (B, height, width, 3): torch.from_numpy(images).permute(0, 3, 1, 2); files: model.read(paths)"
    if images.is_floating_point():
        low, high = (float(images.min()), float(images.max())) if images.numel() else (0.0, 1.0)
        if low >= 0 and high <= 1:
            return "from [0, 1]: (images * 255).round().to(torch.uint8)"
        return f"from {low:g} to {high:g}: pass images as they were before, the model normalises them itself"
    if images.dtype != torch.uint8:
        return "integers from 0 to 255: images.to(torch.uint8)"
    if images.dim() == 3:
        return "one image needs a batch: images[None]"
    if images.dim() == 4 and images.shape[3] == 3:
        return "channels come first: images.permute(0, 3, 1, 2)"
    if images.dim() == 4 and images.shape[1] == 1:
        return "grey images: images.expand(-1, 3, -1, -1)"
    return "images of other sizes have to be resized first, as model.read(paths) does with files"


class OnImages(nn.Module):
    """uint8 (B, 3, H, W) -> logits (B, classes): normalised as in training, and through `model`.

    `mean` and `std` are of each channel, of pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.to(torch.float32).div(255).sub(self.mean).div(self.std)
        logits: Tensor = self.model(pixels)
        return logits


class OnFeatures(nn.Module):
    """uint8 (B, 3, H, W) -> logits (B, classes): preprocessed, through a frozen backbone and the layer `head`."""

    def __init__(self, preprocess: Preprocess, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(self.preprocess(images)).flatten(1).float()
        logits: Tensor = self.head(features)
        return logits


def calibrated(logits: Tensor, temperature: float | None) -> Tensor:
    """The probabilities (B, classes) of logits (B, classes)."""
    return (logits / (temperature or 1.0)).softmax(1)


@dataclass(frozen=True)
class Classifier:
    """A trained model with its preprocessing.

    `model` holds the weights that best.pt keeps; `network`, of which it is a part, computes the logits of images.
    Image files are brought to `format`. `temperature`, fitted on validation images, divides the logits before
    probabilities are made of them; None: it was not fitted. `neighbours`: training images, to which the distance of an
    image is measured by what the head of `model` receives; None: they are not known.
    """

    classes: tuple[str, ...]
    model: nn.Module
    network: nn.Module
    format: InputFormat
    temperature: float | None = None
    neighbours: Neighbours | None = None

    @property
    def size(self) -> int:
        """Height and width, in pixels, of the images that it was trained on."""
        return self.format.size

    def to(self, device: torch.device) -> Classifier:
        """The same one, its weights on `device`."""
        neighbours = self.neighbours and self.neighbours.to(device)
        return dataclasses.replace(self, network=self.network.to(device), neighbours=neighbours)

    def logits(self, images: Tensor) -> Tensor:
        """float32 (B, classes) of images uint8 (B, 3, size, size). Raises InputError for anything else."""
        return self.outputs(images)[0]

    @torch.inference_mode()
    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and the distances float32 (B,) to the training images, NaN where these are not known."""
        check_images(images, self.size)
        if not len(images):
            return torch.zeros(0, len(self.classes)), torch.zeros(0)
        inputs = images.contiguous(memory_format=torch.channels_last)
        if self.neighbours is None:
            logits = self.network(inputs)
            return logits, logits.new_full((len(logits),), float("nan"))
        logits, features = with_features(self.network, self.head, inputs)
        return logits, self.neighbours(features)

    @property
    def head(self) -> nn.Module | None:
        """The last layer of `model`, if that is linear: what it receives are the features."""
        return head_of(self.model, len(self.classes))

    def probabilities(self, images: Tensor) -> Tensor:
        """float32 (B, classes), rows that sum to 1. Raises InputError as `logits` does."""
        return calibrated(self.logits(images), self.temperature)

    def predict(self, images: Tensor) -> list[str]:
        """The most likely class of each image. Raises InputError as `logits` does."""
        return [self.classes[index] for index in self.logits(images).argmax(1).tolist()]

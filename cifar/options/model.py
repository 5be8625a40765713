"""config group model: the network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from cifar.options.fields import matching, one_of, restricted, within
from cifar.options.left_open import AUTO
from cifar.options.option import ConfigError, Option

if TYPE_CHECKING:
    from cifar.options.config import Config


@dataclass
class Model(Option):
    """A network; its target is called with `num_classes` and the other keys."""

    group: ClassVar[str] = "model"

    _target_: str = MISSING

    def at(self, image_size: int) -> Model:
        """The network for images of this height and width, in pixels."""
        return self


CIFAR_STEM_SIZE = 64
"""The largest images, in pixels, for which stem=auto is the CIFAR stem."""


@dataclass
class BottleneckResNet(Model):
    """Bottleneck ResNet; depths and width are free. stem=auto: that of CIFAR up to 64 pixels, else that of ImageNet."""

    _target_: str = "cifar.models.resnet.BottleneckResNet"
    depths: list[int] = within("[1, inf)")
    width: int = within("[1, inf)")
    stem: str = one_of("auto", "cifar", "imagenet")

    def at(self, image_size: int) -> Model:
        if self.stem != "auto":
            return self
        return replace(self, stem="cifar" if image_size <= CIFAR_STEM_SIZE else "imagenet")

    def check(self, config: Config) -> None:
        if not self.depths:
            raise ConfigError("model.depths=[]: allowed: at least one stage, as [1, 1, 1, 1]")


USUAL_WIDTH = 32
"""The width for model.width=auto where no time is set."""


RESNET9_SIZE = 48
"""The most pixels, in height and width, that a map has behind the first convolution where stride=null."""


def _is_width(value: Any) -> bool:
    return value == AUTO or (type(value) is int and value > 0)


@dataclass
class ResNet9(Model):
    """ResNet-9: shallow, wide and fast to train, for a good model in minutes."""

    _target_: str = "cifar.models.resnet9.ResNet9"
    width: Any = restricted("auto, or a whole number above 0", _is_width)
    stride: int | None = within("[1, inf)")

    def at(self, image_size: int) -> ResNet9:
        """With the usual width where it is auto: cifar.auto decides that of a run with a time."""
        stride = self.stride or 2 ** max(0, math.ceil(math.log2(image_size / RESNET9_SIZE)))
        return replace(self, width=USUAL_WIDTH if self.width == AUTO else self.width, stride=stride)


@dataclass
class Torchvision(Model):
    """Any classifier of torchvision, from random weights: model.name is the name it has in torchvision.models."""

    calls = ("torchvision.models.*",)
    _target_: str = "torchvision.models.get_model"
    name: str = matching(r"\w+", "a name of torchvision.models, as resnet18")


@dataclass
class Timm(Model):
    """Any classifier of timm, from random weights: model.model_name is its name there."""

    package = "timm"
    calls = ("timm.models.*",)
    _target_: str = "timm.create_model"
    model_name: str = matching(r"[\w.]+", "a name of timm's, as resnet26t")


@dataclass
class Pretrained(Model):
    """The backbone that transfer=frozen or transfer=finetune names; chosen by them."""

    _target_: str = "cifar.models.pretrained.load_backbone"

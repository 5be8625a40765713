"""config group model: the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from cifar.options.fields import matching, within
from cifar.options.option import ConfigError, Option

if TYPE_CHECKING:
    from cifar.options.config import Config


@dataclass
class Model(Option):
    """A network; its target is called with `num_classes` and the other keys."""

    group: ClassVar[str] = "model"

    _target_: str = MISSING


@dataclass
class BottleneckResNet(Model):
    """Bottleneck ResNet with the CIFAR stem (3x3 convolution, no pooling); depths and width are free."""

    _target_: str = "cifar.models.resnet.BottleneckResNet"
    depths: list[int] = within("[1, inf)")
    width: int = within("[1, inf)")

    def check(self, config: Config) -> None:
        if not self.depths:
            raise ConfigError("model.depths=[]: allowed: at least one stage, as [1, 1, 1, 1]")


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

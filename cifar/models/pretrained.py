"""Pretrained backbones: built, given their weights, their classifier removed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision.models
from hydra.utils import instantiate
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, convert_image_dtype, normalize, resize

from cifar.errors import UserError
from cifar.models.build import BUILD_ERRORS
from cifar.options.config import ConfigError

log = logging.getLogger(__name__)
CLASSIFIERS = ("fc", "classifier", "head")
"""The names that classifiers have in torchvision and timm."""
RANDOM = "random"
BACKBONES = (
    "torchvision.models.*",
    "timm.create_model",
    "timm.models.*",
    "cifar.models.resnet.BottleneckResNet",
    "efficientnet_lite_pytorch.model.EfficientNet",
    "efficientnet_lite_pytorch.EfficientNet.from_name",
)
"""What transfer.backbone may name."""


class TransferError(UserError):
    """A backbone, its weights or its features cannot be used: the message names what, why and what is allowed."""


@dataclass(frozen=True)
class Preprocess:
    """images uint8 (B, 3, H, W) -> float32 (B, 3, crop, crop): shorter side to `resize`, centre crop, normalise."""

    resize: int = 256
    crop: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        pixels = convert_image_dtype(self.sized(images), torch.float32)
        return normalize(pixels, list(self.mean), list(self.std))

    def sized(self, images: Tensor) -> Tensor:
        """Resized and cropped only, in the type that they came in."""
        shorter = resize(images, [self.resize], InterpolationMode(self.interpolation), antialias=True)
        return center_crop(shorter, [self.crop])


@dataclass
class Backbone:
    """A network up to, and without, its last linear layer: images -> features (B, width).

    `name` and `options` say what built it, `weights` where its weights come from, `sha256` what they are;
    `seen` counts the images that features() was given.
    """

    model: nn.Module
    width: int
    preprocess: Preprocess
    name: str
    options: dict[str, Any]
    weights: str
    sha256: str
    seen: int = 0

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """float32 (B, width) of images uint8 (B, 3, H, W), with batch norm in eval mode."""
        self.model.eval()
        self.seen += len(images)
        layout = torch.channels_last
        return self.model(self.preprocess(images).contiguous(memory_format=layout)).flatten(1).float()

    def reference(self) -> dict[str, Any]:
        """All that it takes to build this backbone again, in plain types."""
        named = {"_target_": self.name, **self.options}
        return {"backbone": named, "weights": self.weights, "weights_sha256": self.sha256} | {
            "preprocess": asdict(self.preprocess)
        }


def build_backbone(
    target: Mapping[str, Any], weights: str, sha256: str | None, head: str | None, image_size: int | None
) -> Backbone:
    """The backbone that `target` (a `_target_` and its arguments) builds, with its weights.

    Reads the weights anew on each call. Raises ConfigError or TransferError.
    """

    def make() -> nn.Module:
        try:
            model: nn.Module = instantiate(dict(target), _execution_whitelist_=BACKBONES)
        except BUILD_ERRORS as error:
            raise ConfigError(
                f"transfer.backbone={target} cannot be built: {error}; allowed: {', '.join(BACKBONES)}"
            ) from error
        return model

    options = {key: value for key, value in target.items() if key != "_target_"}
    return load_backbone(make, target["_target_"], options, weights, sha256, head, image_size)


def load_backbone(
    make: Callable[[], nn.Module],
    name: str,
    options: Mapping[str, Any],
    weights: str,
    sha256: str | None = None,
    head: str | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Build a backbone, load its weights, take its classifier off and try it on one image.

    `make` builds the whole network, `name` being its import path. `weights`: a name among torchvision's weights for
    it, the path of a state dict (.pth, .pt, .safetensors), or "random". `head`: the name of the classifier; None: the
    one of CLASSIFIERS that there is. Raises TransferError.
    """
    with torch.random.fork_rng(devices=[]):  # the run's own numbers are not touched
        torch.manual_seed(0)
        model = make()
    last = find_classifier(model, head)
    if weights != RANDOM:
        state, source = _read_weights(name, weights, sha256)
        _load_state(model, state, last, source)
    linear = model.get_submodule(last)
    assert isinstance(linear, nn.Linear)
    model.set_submodule(last, nn.Identity())
    model.requires_grad_(False).eval()
    preprocess = _preprocess(name, weights, model, image_size)
    found = Backbone(
        model, linear.in_features, preprocess, name, dict(options), weights, state_hash(model.state_dict())
    )
    _try(found)
    return found


def find_classifier(model: nn.Module, head: str | None) -> str:
    """The path of the last linear layer: in the child named `head`, or in the one of CLASSIFIERS that there is."""
    children = [name for name, _ in model.named_children()]
    candidates = [head] if head else [name for name in CLASSIFIERS if name in children]
    if len(candidates) != 1 or candidates[0] not in dict(model.named_modules()):
        wrong = (
            f"no part named {head}" if head else f"{len(candidates)} classifiers ({', '.join(candidates) or 'none'})"
        )
        raise TransferError(
            f"transfer.head={head or 'null'}: {type(model).__name__} has {wrong}; allowed: a part that ends in a linear"
            f" layer, of {', '.join(children)}"
        )
    (name,) = candidates
    layers = [
        path for path, part in model.get_submodule(name).named_modules(prefix=name) if isinstance(part, nn.Linear)
    ]
    if not layers:
        raise TransferError(f"transfer.head={name}: has no linear layer; allowed: a part that ends in one")
    return layers[-1]


def _read_weights(name: str, weights: str, sha256: str | None) -> tuple[dict[str, Tensor], str]:
    """A state dict and what to call its source."""
    path = Path(weights).expanduser()
    if path.suffix in (".pth", ".pt", ".safetensors") or path.exists():
        return _read_file(path, sha256), str(path)
    known = _torchvision_weights(name)
    if weights not in known.__members__:
        allowed = ", ".join(known.__members__) or f"no names are known for {name}"
        raise TransferError(
            f"transfer.weights={weights}: no such file, and no such weights; allowed: {allowed}; a .pth or .safetensors"
            f" file; {RANDOM}"
        )
    chosen = known[weights]
    try:
        return dict(chosen.get_state_dict(progress=True, check_hash=True)), weights
    except (URLError, OSError, RuntimeError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(chosen.url).name
        raise TransferError(
            f"transfer.weights={weights}: could not be downloaded from {chosen.url} ({error}); put the file to {place},"
            " or name it with transfer.weights=FILE"
        ) from None


def _torchvision_weights(name: str) -> Any:
    """torchvision's enum of weights for one of its networks; an empty one for any other."""
    import enum

    module, _, builder = name.rpartition(".")
    if module.startswith("torchvision.models") and builder in torchvision.models.list_models():
        return torchvision.models.get_model_weights(builder)
    return enum.Enum("NoWeights", [])


def _read_file(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The state dict in a file; nothing in it is run."""
    if not path.is_file():
        raise TransferError(f"transfer.weights={path}: no such file; allowed: a state dict, .pth or .safetensors")
    if sha256 is not None:
        with path.open("rb") as file:
            found = (
                hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(path)
            )
        if found != sha256.lower():
            raise TransferError(f"{path}: its SHA-256 is {found}, not transfer.sha256={sha256}; fetch the file again")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise whatever it stumbles over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TransferError(
            f"{path}: not a state dict that can be loaded safely, nothing in it was run ({reason}); fetch it again"
        ) from None
    for key in ("model", "state_dict"):  # best.pt of this program, and what others wrap theirs in
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise TransferError(f"{path}: not a state dict (names and tensors); allowed: what torch.save(net.state_dict())")
    return dict(state)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load_state(model: nn.Module, state: dict[str, Tensor], last: str, source: str) -> None:
    """Put a state dict into `model`, all but the layer `last`. Raises TransferError where they do not fit."""
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(f"{last}.")}
    theirs = {key: value for key, value in state.items() if not key.startswith(f"{last}.")}
    # Old files lack the counters of batch norm, which eval mode does not need.
    missing = [key for key in own if key not in theirs and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in theirs if key not in own]
    shapes = [
        f"{key} is {tuple(theirs[key].shape)} there and {tuple(own[key].shape)} here"
        for key in own
        if key in theirs and own[key].shape != theirs[key].shape
    ]
    wrong = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if names[3:] else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of other shapes", shapes))
        if names
    ]
    if wrong:
        raise TransferError(
            f"{source}: weights of another architecture than transfer.backbone={type(model).__name__}: "
            f"{'; '.join(wrong)}; name the backbone that they belong to"
        )
    bad = [key for key, value in theirs.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise TransferError(f"{source}: {bad[0]} holds values that are not finite; fetch the file again")
    model.load_state_dict(theirs, strict=False)


def _preprocess(name: str, weights: str, model: nn.Module, image_size: int | None) -> Preprocess:
    """What the weights were trained with; `image_size` takes the place of both sizes."""
    known = _torchvision_weights(name)
    if len(known):
        theirs = (known[weights] if weights in known.__members__ else known.DEFAULT).transforms()
        sizes, kind = (theirs.resize_size[0], theirs.crop_size[0]), theirs.interpolation.value
        found = Preprocess(*sizes, tuple(theirs.mean), tuple(theirs.std), kind)
    else:
        timm = getattr(model, "pretrained_cfg", None) or {}
        crop = int(timm.get("input_size", (3, 224, 224))[-1])
        size = round(crop / timm.get("crop_pct", 0.875))
        mean, std = tuple(timm.get("mean", Preprocess.mean)), tuple(timm.get("std", Preprocess.std))
        found = Preprocess(size, crop, mean, std, timm.get("interpolation", "bilinear"))
    if image_size is not None:
        found = Preprocess(image_size, image_size, found.mean, found.std, found.interpolation)
    return found


def _try(backbone: Backbone) -> None:
    """Raises TransferError where one grey image does not give finite features of the right shape."""
    size = backbone.preprocess.crop
    try:
        found = backbone.features(torch.full((1, 3, 32, 32), 128, dtype=torch.uint8))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TransferError(
            f"transfer.image_size={size}: {backbone.name} fails on images of {size}x{size} pixels ({reason}); allowed:"
            " larger ones, as transfer.image_size=224"
        ) from None
    if found.shape != (1, backbone.width) or not found.isfinite().all():
        raise TransferError(
            f"transfer.backbone={backbone.name}: an image gives {tuple(found.shape)}, not {backbone.width} finite"
            " features; name its classifier with transfer.head=NAME"
        )
    backbone.seen = 0


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict: names, types, shapes and values, buffers too."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.view(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()

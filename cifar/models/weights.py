"""Pretrained weights: read from a file or from torchvision, checked, and loaded into a network."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision.models
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from cifar.errors import UserError
from cifar.formatting import first_line
from cifar.options.transfer import LITE, LITE_WEIGHTS, is_file
from cifar.packages import require

RANDOM = "random"
"""The name of weights that are drawn, not read."""
INNER = "backbone."
"""What names begin with where a file is of a backbone and a head: a fine-tuned network, or one of other programs."""
State = dict[str, Tensor]


class TransferError(UserError):
    """A backbone, its weights or its features cannot be used: the message names what, why and what is allowed."""


def read_weights(network: str, weights: str, sha256: str | None) -> tuple[State, str]:
    """A state dict, and what to call its source. `network`: the import path of what builds the network.

    `weights`: the path of a state dict (.pth, .pt, .safetensors), whose SHA-256 must be `sha256` where that is not
    None, or a name among torchvision's weights for the network, or LITE_WEIGHTS. Raises TransferError, PackageError.
    """
    if weights == LITE_WEIGHTS:
        require(f"transfer.weights={weights}", "lite", LITE_WEIGHTS)
        (file,) = Path(str(importlib.resources.files(LITE_WEIGHTS))).glob("models/*.pth")
        return _read_file(file, sha256), weights
    if is_file(weights):
        path = Path(weights).expanduser()
        return _read_file(path, sha256), str(path)
    known = torchvision_weights(network)
    if weights not in known:
        packaged = LITE_WEIGHTS if network.startswith(f"{LITE}.") else f"no names are known for {network}"
        allowed = ", ".join(known) or packaged
        raise TransferError(
            f"transfer.weights={weights}: no such file, and no such weights; allowed: {allowed}; a .pth or .safetensors"
            f" file; {RANDOM}"
        )
    return _download(known[weights], weights), weights


def torchvision_weights(network: str) -> dict[str, WeightsEnum]:
    """torchvision's weights for one of its networks, by name; none for any other network."""
    module, _, builder = network.rpartition(".")
    if module.startswith("torchvision.models") and builder in torchvision.models.list_models():
        return dict(torchvision.models.get_model_weights(builder).__members__)
    return {}


def _download(weights: WeightsEnum, name: str) -> State:
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise TransferError(
            f"transfer.weights={name}: could not be downloaded from {weights.url} ({first_line(error)}); put the file"
            f" to {path}, or name it with transfer.weights=FILE"
        ) from None


def _read_file(path: Path, sha256: str | None) -> State:
    """The state dict in a file. No code in the file is run."""
    if not path.is_file():
        raise TransferError(f"transfer.weights={path}: no such file; allowed: a state dict, .pth or .safetensors")
    if sha256 is not None:
        _check_file(path, sha256)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types for a damaged file
        reason = first_line(error).partition(". ")[0]  # then comes torch's advice
        raise TransferError(
            f"{path}: not a state dict that can be loaded safely, nothing in it was run ({reason}); download it again"
        ) from None
    for key in ("model", "state_dict"):  # where best.pt of this program, and other programs, keep it
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not _is_state(content):
        raise TransferError(
            f"{path}: not a state dict (names and tensors); allowed: a file by torch.save(net.state_dict(), FILE)"
        )
    return dict(content)


def _check_file(path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    if digest.hexdigest() != sha256.lower():
        raise TransferError(
            f"{path}: its SHA-256 is {digest.hexdigest()}, not transfer.sha256={sha256}; download the file again"
        )


def _is_state(content: object) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    return all(isinstance(value, Tensor) for value in content.values())


def load_state(model: nn.Module, state: State, last: str, source: str) -> None:
    """Load `state` from `source` into `model`, all but the layer `last`. Raises TransferError where they do not fit."""
    expected = _without_layer(model.state_dict(), last)
    inner = {name.removeprefix(INNER): value for name, value in state.items() if name.startswith(INNER)}
    if inner and not any(name.startswith(INNER) for name in expected):
        state = inner
    loaded = _without_layer(state, last)
    differences = _differences(expected, loaded)
    if differences:
        raise TransferError(
            f"{source}: weights of another architecture than transfer.backbone={type(model).__name__}: "
            f"{'; '.join(differences)}; name the backbone that they belong to"
        )
    for name, value in loaded.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise TransferError(f"{source}: {name} holds values that are not finite; download the file again")
    model.load_state_dict(loaded, strict=False)


def _without_layer(state: Mapping[str, Tensor], layer: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(f"{layer}.")}


def _differences(expected: State, loaded: State) -> list[str]:
    """In words: which tensors are missing, unexpected or of other shapes; of each the first three."""
    # Old files lack the counters of batch norm, which eval mode does not need.
    missing = [name for name in expected if name not in loaded and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in loaded if name not in expected]
    shapes = []
    for name, value in expected.items():
        if name in loaded and loaded[name].shape != value.shape:
            shapes.append(f"{name} is {tuple(loaded[name].shape)} there and {tuple(value.shape)} here")
    differences = []
    for kind, names in (("missing", missing), ("unexpected", unexpected), ("of other shapes", shapes)):
        if names:
            more = ", ..." if len(names) > 3 else ""
            differences.append(f"{len(names)} {kind} ({', '.join(names[:3])}{more})")
    return differences


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict: names, types, shapes and values, buffers too."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        if value.numel():
            digest.update(value.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

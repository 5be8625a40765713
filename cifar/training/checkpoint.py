"""Checkpoints: saved whole or not at all, loaded without running what is in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar.errors import UserError
from cifar.files import write_atomically


class CheckpointError(UserError):
    """A checkpoint that cannot be used: the message names the file and the reason."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, and dicts and lists of them) to `path`. Raises FileError."""
    content = io.BytesIO()  # torch.save into a file hides the error of a full disk behind one of its own
    torch.save(state, content)
    write_atomically(path, content.getbuffer())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What save wrote. Raises CheckpointError for a file that is missing, damaged or holds code."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # a damaged file makes torch raise whatever it stumbles over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: not a checkpoint that can be loaded safely, nothing in it was run ({reason})"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a checkpoint of this program (it holds a {type(state).__name__})")
    return state


def load_weights(model: nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Put `weights` into `model`. Raises CheckpointError, naming the first difference, where they do not fit."""
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        ours = tuple(own[name].shape) if name in own else "absent"
        theirs = tuple(weights[name].shape) if name in weights else "absent"
        if ours != theirs:
            raise CheckpointError(
                f"{path}: of another model: {name} is {theirs} there and {ours} here; give its model settings"
            )
    model.load_state_dict(weights)


def random_state() -> dict[str, Any]:
    """The state of torch's global generators, as tensors."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])

"""Checkpoint files: written atomically, and loaded without running any code in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cifar.errors import UserError
from cifar.files import write_atomically
from cifar.formatting import first_line


class CheckpointError(UserError):
    """A checkpoint that cannot be used. The message names the file and the reason."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, and dicts and lists of them) to `path`. Raises FileError."""
    content = io.BytesIO()  # torch.save into a file raises a RuntimeError that hides the error of a full disk
    torch.save(state, content)
    write_atomically(path, content.getbuffer())


def load(path: Path, device: torch.device | str = "cpu", content: bytes | None = None) -> dict[str, Any]:
    """Read a file that `save` wrote, or its `content`, where that has been read.

    Raises CheckpointError for one that is missing or damaged or holds code.
    """
    try:
        state = torch.load(path if content is None else io.BytesIO(content), map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # for a damaged file torch.load raises errors of many types
        reason = first_line(error).partition(". ")[0]  # then comes torch's advice, as to run the code in the file
        raise CheckpointError(
            f"{path}: not a checkpoint that can be loaded safely; no code in it was run ({reason}); it is damaged or of"
            " another program: take a copy that is whole, or start a new run"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a checkpoint of this program (it holds a {type(state).__name__})")
    return state


def load_weights(model: nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Put `weights`, read from `path`, into `model`.

    Raises CheckpointError that names the first difference where they do not fit; the model is unchanged then.
    """
    expected = model.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        model_shape = _shape(expected, name)
        saved_shape = _shape(weights, name)
        if model_shape != saved_shape:
            raise CheckpointError(
                f"{path}: holds the weights of another model: {name} is {saved_shape} in the file and {model_shape} in"
                " this model; use the model settings that the file was written with"
            )
    model.load_state_dict(weights)


def _shape(weights: dict[str, Any], name: str) -> tuple[int, ...] | str:
    return tuple(weights[name].shape) if name in weights else "absent"


def random_state() -> dict[str, Any]:
    """The state of PyTorch's global generators, as tensors."""
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda_states}


def set_random_state(state: dict[str, Any]) -> None:
    """Restore a state of random_state(). The CUDA states are skipped where the number of devices is another one."""
    torch.set_rng_state(state["cpu"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device_state.cpu() for device_state in state["cuda"]])

"""Data that stay on the device: moved there once, for all runs of a process to share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def padded(images: Tensor, crop: int, device: torch.device) -> Tensor:
    """images uint8 (N, C, H, W) on `device`, channels_last, with `crop` pixels of zeros around each."""
    with_border = F.pad(images.to(device), [crop] * 4)
    return _wait_for_copy(with_border.contiguous(memory_format=torch.channels_last))


def stacked(device: torch.device, *views: Tensor) -> Tensor:
    """Features (N, F) of each view as (K, N, F) on `device`."""
    together = torch.stack(views) if len(views) > 1 else views[0][None]
    return _wait_for_copy(together.to(device))


def _wait_for_copy(tensor: Tensor) -> Tensor:
    """`tensor`, once it is on the device: runs on other CUDA streams may use it too."""
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()
    return tensor

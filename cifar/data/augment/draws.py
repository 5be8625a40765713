"""The random generator of an epoch: everything that an epoch draws is a function of (seed, epoch)."""

from __future__ import annotations

import torch


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random generator of epoch `epoch` (from 1) of a run with this seed."""
    # A generator takes 32 bits of its seed only: draw that of the epoch from the stream of the run's seed.
    stream = torch.Generator().manual_seed(seed)
    epoch_seeds = torch.randint(2**32, (epoch,), generator=stream)
    return torch.Generator().manual_seed(int(epoch_seeds[-1]))

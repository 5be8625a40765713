"""Images that stay on disk are those in memory, wherever they are used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cifar.data.images import Images, channel_statistics, fingerprint_of
from cifar.data.loader import ImageLoader
from cifar.data.pixels import OnDisk, blocks, taken

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(256, (23, 3, 6, 6), dtype=torch.uint8, generator=GENERATOR)
LABELS = torch.arange(23) % 3


@pytest.fixture
def stored(tmp_path: Path) -> OnDisk:
    """PIXELS in a file, after 5 other bytes; the file is removed while it is open."""
    file = tmp_path / "pixels"
    file.write_bytes(b"start" + PIXELS.numpy().tobytes())
    on_disk = OnDisk(file, 5, tuple(PIXELS.shape))
    file.unlink()
    return on_disk


def test_slices_and_indices_are_those_of_a_tensor(stored: OnDisk) -> None:
    indices = torch.tensor([4, 5, 6, 2, 2, 22])
    assert (stored.shape, len(stored), stored.dtype) == (PIXELS.shape, 23, torch.uint8)
    for index in (slice(None), slice(3, 9), slice(20, 99), slice(5, 5), indices):
        assert torch.equal(stored[index], PIXELS[index])
    part = taken(stored, indices)
    assert isinstance(part, OnDisk) and torch.equal(part[1:5], PIXELS[indices][1:5])
    assert torch.equal(taken(part, torch.tensor([5, 0]))[:], PIXELS[[22, 4]])
    assert torch.equal(torch.cat(list(blocks(stored, 5 * 108))), PIXELS)


def test_fingerprints_statistics_and_parts_are_those_in_memory(stored: OnDisk) -> None:
    fingerprint = fingerprint_of(PIXELS, LABELS, ("a", "b", "c"))
    assert fingerprint_of(stored, LABELS, ("a", "b", "c")) == fingerprint
    assert channel_statistics(stored) == channel_statistics(PIXELS)
    one, other = (Images(pixels, LABELS, ("a", "b", "c"), fingerprint) for pixels in (PIXELS, stored))
    rows = torch.tensor([7, 1]).numpy()
    assert one.take(rows).fingerprint == other.take(rows).fingerprint
    assert torch.equal(other.take(rows).images[:], PIXELS[[7, 1]])


def compare_batches(stored: OnDisk, device: torch.device) -> None:
    settings = {"batch_size": 4, "device": device, "crop": 2, "flip": True, "seed": 1}
    one, other = (ImageLoader(pixels, LABELS, **settings) for pixels in (PIXELS, stored))  # type: ignore[arg-type]
    for epoch in (1, 2):
        for (x, y), (x_stored, y_stored) in zip(one.epoch(epoch), other.epoch(epoch), strict=True):
            assert torch.equal(x, x_stored) and torch.equal(y, y_stored)


def test_batches_are_those_in_memory(stored: OnDisk) -> None:
    compare_batches(stored, torch.device("cpu"))


@pytest.mark.cuda
def test_batches_on_a_gpu_are_those_in_memory(stored: OnDisk) -> None:
    compare_batches(stored, torch.device("cuda"))


def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pixels"
    file.write_bytes(PIXELS.numpy().tobytes()[:-1])
    with pytest.raises(OSError, match="ended before byte 2484"):
        OnDisk(file, 0, tuple(PIXELS.shape))[20:]

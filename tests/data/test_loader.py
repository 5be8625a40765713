"""Batches: order, crop, flip and normalisation, equal to PIL's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor

from cifar.data import loader
from cifar.data.loader import ImageLoader

CPU = torch.device("cpu")
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


@pytest.fixture(scope="module")
def images(images_of: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """50 images whose labels are their indices."""
    return images_of(50)[0], torch.arange(50)


def epoch(batches: ImageLoader, number: int = 1) -> tuple[Tensor, Tensor]:
    """All images and labels of an epoch."""
    parts = list(batches.epoch(number))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def by_pil(image: Tensor, row: int, column: int, flip: bool, crop: int) -> Tensor:
    """torchvision's Pad, crop, flip, ToTensor, Normalize on a PIL image."""
    pil = TF.crop(TF.pad(TF.to_pil_image(image), crop), row, column, 32, 32)
    pil = TF.hflip(pil) if flip else pil
    return TF.normalize(TF.to_tensor(pil), MEAN, STD)


@pytest.mark.parametrize("crop, flip", [(4, True), (4, False), (0, True), (0, False), (2, True)])
def test_batches_are_bit_equal_to_pil_for_equal_offsets(crop: int, flip: bool, images: tuple[Tensor, Tensor]) -> None:
    batches = ImageLoader(*images, 16, CPU, MEAN, STD, crop=crop, flip=flip, seed=3)
    batch_images, labels = epoch(batches, 2)
    order, rows, columns, flips = batches.draw(2)
    assert torch.equal(labels, order)
    for i, number in enumerate(order.tolist()):
        expected = by_pil(images[0][number], int(rows[i]), int(columns[i]), bool(flips[i]) and flip, crop)
        assert torch.equal(batch_images[i], expected)


def test_offsets_cover_the_whole_padding_and_half_is_flipped(images: tuple[Tensor, Tensor]) -> None:
    batches = ImageLoader(*images, 16, CPU, crop=4, flip=True, seed=0)
    drawn = [batches.draw(number) for number in range(1, 21)]
    for axis in (1, 2):
        assert set(torch.cat([d[axis] for d in drawn]).tolist()) == set(range(9))
    assert 0.4 < torch.cat([d[3] for d in drawn]).float().mean() < 0.6
    assert not all(torch.equal(d[1], d[2]) for d in drawn)


def test_every_image_comes_exactly_once_an_epoch(images: tuple[Tensor, Tensor]) -> None:
    batches = ImageLoader(*images, 16, CPU, crop=4, flip=True, seed=0)
    for number in (1, 2):
        labels = epoch(batches, number)[1]
        assert sorted(labels.tolist()) == list(range(50))
        assert labels.tolist() != list(range(50))


def test_the_last_batch_holds_what_is_left(images: tuple[Tensor, Tensor]) -> None:
    batches = ImageLoader(*images, 16, CPU, seed=0)
    assert [len(labels) for _, labels in batches.epoch(1)] == [16, 16, 16, 2]
    assert (len(batches), batches.total) == (4, 50)


def test_an_epoch_is_a_function_of_seed_and_number_alone(images: tuple[Tensor, Tensor]) -> None:
    one, other = (ImageLoader(*images, 16, CPU, crop=4, flip=True, seed=5) for _ in range(2))
    expected = epoch(one, 3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    epoch(other, 1)
    for a, b in zip(expected, epoch(other, 3), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_does_not_depend_on_the_batch_size(images: tuple[Tensor, Tensor]) -> None:
    a, b = (epoch(ImageLoader(*images, size, CPU, crop=4, flip=True, seed=5)) for size in (7, 50))
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.mark.parametrize("rows", [1, 40, 1000])
def test_an_epoch_does_not_depend_on_how_many_batches_are_made_at_once(
    rows: int, images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = ImageLoader(*images, 16, CPU, MEAN, STD, crop=4, flip=True, seed=0)
    one_by_one = list(batches.epoch(2))
    monkeypatch.setitem(loader.BYTES_AT_ONCE, "cpu", rows * 3 * 32 * 32 * 4)
    for (x, labels), (others, theirs) in zip(one_by_one, batches.epoch(2), strict=True):
        assert torch.equal(x, others) and torch.equal(labels, theirs)
        assert others.is_contiguous(memory_format=torch.channels_last)


def test_seeds_and_epochs_differ(images: tuple[Tensor, Tensor]) -> None:
    seen = set()
    for seed in (0, 1, 2, 2**31, 2**32 - 1):
        batches = ImageLoader(*images, 16, CPU, crop=4, flip=True, seed=seed)
        for number in range(1, 6):
            order, rows, columns, flips = batches.draw(number)
            seen |= {tuple(part.tolist()) for part in (order, rows, columns, flips)}
    assert len(seen) == 5 * 5 * 4


def test_the_epoch_of_one_seed_is_not_that_of_another(images: tuple[Tensor, Tensor]) -> None:
    """seed + epoch would make epoch 2 of seed 0 epoch 1 of seed 1."""
    a, b = (ImageLoader(*images, 16, CPU, seed=seed) for seed in (0, 1))
    orders = {tuple(x.draw(number)[0].tolist()) for x in (a, b) for number in range(1, 10)}
    assert len(orders) == 18


def test_without_a_seed_images_come_as_they_are(images: tuple[Tensor, Tensor]) -> None:
    batch_images, labels = epoch(ImageLoader(*images, 16, CPU, crop=4, flip=True))
    assert torch.equal(batch_images, images[0].float() / 255)
    assert torch.equal(labels, images[1])


@pytest.mark.parametrize("options", [{"crop": 4, "flip": True, "seed": 0}, {}])
def test_batches_are_float32_and_channels_last(options: dict[str, Any], images: tuple[Tensor, Tensor]) -> None:
    for x, y in ImageLoader(*images, 16, CPU, MEAN, STD, **options).epoch(1):
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.shape[1:] == (3, 32, 32)
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_leaves_the_images_as_they_were(images: tuple[Tensor, Tensor]) -> None:
    copy = images[0].clone()
    batches = ImageLoader(*images, 16, CPU, MEAN, STD, crop=4, flip=True, seed=0)
    for x, _ in batches.epoch(1):
        x.fill_(7)
    assert torch.equal(images[0], copy)
    fresh = ImageLoader(copy, images[1], 16, CPU, MEAN, STD, crop=4, flip=True, seed=0)
    assert torch.equal(epoch(batches)[0], epoch(fresh)[0])

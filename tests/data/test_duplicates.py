"""Near duplicates are found whatever was done to a copy, and images that only look alike are not."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from cifar.data.duplicates import CUT, between, near_duplicates

Change = Callable[[Image.Image], Image.Image]
COUNT = 8


def shots(count: int = COUNT, side: int = 32, seed: int = 0) -> list[Image.Image]:
    """Images of coloured blobs at random places."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(256, size=(count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC) for each in pixels]


def pixels_of(images: list[Image.Image], side: int = 32) -> Tensor:
    arrays = [np.array(image.convert("RGB").resize((side, side))) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def recompressed(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


def recoloured(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) * [1.1, 0.9, 0.7]).clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "half the size": lambda image: image.resize((16, 16)),
    "twice the size": lambda image: image.resize((64, 64), Image.Resampling.BICUBIC),
    "JPEG, quality 30": recompressed,
    "shifted by a pixel": lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0)),
    "brighter by 15%": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "mirrored": ImageOps.mirror,
    "recoloured": recoloured,
    "cropped": lambda image: image.crop((2, 1, 31, 30)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: Change) -> None:
    originals = shots()
    copies = [change(image) for image in originals]
    pairs = near_duplicates(pixels_of(originals + copies))
    assert {(pair.first, pair.second) for pair in pairs} == {(index, index + COUNT) for index in range(COUNT)}
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)
    assert pairs[-1].distance <= CUT
    assert near_duplicates(pixels_of(originals + copies), most=3) == pairs[:3]


def test_crops_of_one_photograph_are_found_where_they_show_nearly_the_same() -> None:
    photographs = [image.resize((512, 512), Image.Resampling.BICUBIC) for image in shots(6, seed=3)]

    def crops(left: int) -> list[Image.Image]:
        return [image.crop((left, 100, left + 256, 356)) for image in photographs]

    near = near_duplicates(pixels_of(crops(0) + crops(12), side=64))
    assert {(pair.first, pair.second) for pair in near} == {(index, index + 6) for index in range(6)}
    assert near_duplicates(pixels_of(crops(0) + crops(256), side=64)) == []


def test_images_without_contrast_are_like_nothing() -> None:
    flat = torch.arange(20, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32) * 12
    slope = flat + torch.arange(32, dtype=torch.uint8) // 8
    noise = torch.randint(2, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert near_duplicates(torch.cat([flat, slope, flat + noise])) == []


def test_the_best_match_in_another_part_is_given() -> None:
    originals = shots()
    train = pixels_of([*shots(5, seed=1), *originals, *map(ImageOps.mirror, originals)])
    test = pixels_of([*shots(3, seed=2), *map(recompressed, originals[:4])])
    pairs = between(test, train)
    assert sorted((pair.first, pair.second) for pair in pairs) == [(3, 5), (4, 6), (5, 7), (6, 8)]
    unrelated = torch.randn(len(test), 4), torch.randn(len(train), 4)
    assert between(test, train, unrelated) == pairs
    assert len(between(test, train, cut=9)) >= len(pairs)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_have_no_duplicates(count: int) -> None:
    few = pixels_of(shots(2))[:count]
    assert near_duplicates(few) == []
    assert between(few, few[:0]) == []


def test_progress_ends_at_the_total() -> None:
    calls: list[tuple[int, int]] = []
    near_duplicates(pixels_of(shots()), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0

"""Fingerprints change with the content, and statistics are those of the pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numbered import numbered

from cifar.data.images import channel_statistics, fingerprint_of


def test_the_fingerprint_changes_with_content_and_order() -> None:
    images = numbered([20, 20])
    pixels, labels = images.images.clone(), images.labels.clone()
    pixels[7, 2, 31, 31] += 1
    labels[7] = 1 - labels[7]
    order = torch.arange(39, -1, -1)
    seen = [
        fingerprint_of(images.images, images.labels, images.classes),
        fingerprint_of(pixels, images.labels, images.classes),
        fingerprint_of(images.images, labels, images.classes),
        fingerprint_of(images.images[order], images.labels[order], images.classes),
        fingerprint_of(images.images, images.labels, ("a", "b")),
    ]
    assert seen[0] == images.fingerprint == numbered([20, 20]).fingerprint
    assert len(set(seen)) == len(seen)


def test_a_parts_fingerprint_changes_with_what_is_in_it_and_its_order() -> None:
    images = numbered([20, 20])
    chosen = [np.array(indices) for indices in ([1, 2, 3], [3, 2, 1], [1, 2], [1, 2, 4])]
    assert len({images.take(indices).fingerprint for indices in chosen}) == 4
    assert images.take(chosen[0]).fingerprint == images.take(chosen[0].copy()).fingerprint


def test_channel_statistics_are_those_of_the_pixels(images_of: Callable[..., Any]) -> None:
    images = images_of(20)[0] // torch.tensor([1, 2, 3], dtype=torch.uint8).view(1, 3, 1, 1)
    mean, std = channel_statistics(images)
    pixels = images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-9)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-9)


def test_a_constant_channel_can_be_divided_by_its_deviation() -> None:
    assert min(channel_statistics(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))[1]) > 0

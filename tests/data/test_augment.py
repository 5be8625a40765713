"""Views of images that are cropped and flipped once, before their features are computed."""

from __future__ import annotations

import torch
from backbones import CPU, some_images

from cifar.data.augment import augmented
from cifar.data.loader import FeatureLoader


def test_views_differ_and_are_drawn_among() -> None:
    images = some_images()
    views = [augmented(images, 4, True, view) for view in range(3)]
    assert len({view.fingerprint for view in (images, *views)}) == 4
    assert not torch.equal(views[0].images, views[1].images)
    assert torch.equal(views[1].images, augmented(images, 4, True, 1).images)
    kept = augmented(images, 0, False, 0)
    assert torch.equal(kept.images, images.images), "without crop and flip every image is in its place"
    rows = torch.arange(3.0).view(3, 1, 1).expand(3, 64, 2)
    drawn = torch.cat([x for x, _ in FeatureLoader(rows, images.labels, 8, CPU, seed=0).epoch(1)])
    assert set(drawn[:, 0].tolist()) == {0.0, 1.0, 2.0}

"""Augmentation that is done once, before the features of the images are computed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch

from cifar.data.images import Images
from cifar.data.loader import ImageLoader


def augmented(images: Images, crop: int, flip: bool, view: int) -> Images:
    """A random crop and flip of every image, in the order of `images`: the same for the same `view`."""
    batches = ImageLoader(
        images.images, images.labels, len(images), torch.device("cpu"), crop=crop, flip=flip, seed=view
    )
    order, *how = batches.draw(1)
    pixels = torch.empty_like(images.images)
    pixels[order] = batches.pixels(order, *how)
    name = f"{images.fingerprint} crop {crop} flip {flip} view {view}"
    return replace(images, images=pixels, fingerprint=hashlib.sha256(name.encode()).hexdigest())

"""Splits are stratified, complete and a function of their seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numbered import numbered, numbers

from cifar.data.images import DataError, channel_statistics
from cifar.data.split import prepare, split, stratified_subset


@pytest.mark.parametrize("size, count", [(0.2, 60), (60, 60), (0.25, 75), (3, 3), (297, 297)])
def test_split_is_disjoint_complete_and_of_the_size_asked_for(size: float, count: int) -> None:
    images = numbered([150, 100, 50])
    rest, part = split(images, size, seed=0)
    assert (len(rest), len(part)) == (300 - count, count)
    assert sorted(numbers(rest) + numbers(part)) == list(range(300))
    assert numbers(rest) == sorted(numbers(rest)) and numbers(part) == sorted(numbers(part))
    for side in (rest, part):
        assert [int(images.labels[number]) for number in numbers(side)] == side.labels.tolist()


def test_split_is_stratified() -> None:
    rest, part = split(numbered([150, 100, 50]), 0.2, seed=0)
    assert part.labels.bincount().tolist() == [30, 20, 10]
    assert rest.labels.bincount().tolist() == [120, 80, 40]


def test_split_is_a_function_of_its_seed() -> None:
    images = numbered([150, 100, 50])
    one, repeated, other = (numbers(split(images, 0.2, seed=seed)[1]) for seed in (1, 1, 2))
    torch.manual_seed(5)
    np.random.seed(5)
    assert one == repeated == numbers(split(images, 0.2, seed=1)[1]) != other


@pytest.mark.parametrize("size", [300, 301, 5000, 299, 2, 0.001, 0.999])
def test_a_side_without_every_class_is_refused(size: float) -> None:
    with pytest.raises(DataError, match=rf"data\.val_size.*{size:g}.* of 300 images in 3 classes"):
        split(numbered([150, 100, 50]), size, seed=0)


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"the smallest has 1"):
        split(numbered([20, 1]), 0.5, seed=0)


def test_a_subset_is_stratified_and_keeps_all_where_there_are_no_more() -> None:
    images = numbered([150, 100, 50])
    assert stratified_subset(images, 60, seed=0).labels.bincount().tolist() == [30, 20, 10]
    for count in (None, 300, 1000):
        assert stratified_subset(images, count, seed=0) is images


def test_images_are_limited_before_they_are_split_and_statistics_are_of_those_to_train_on() -> None:
    images = numbered([150, 100, 50])
    splits = prepare(images, 60, 0.2, 3)
    kept = stratified_subset(images, 60, 3)
    train, val = split(kept, 0.2, 3)
    assert (len(splits.train), len(splits.val)) == (48, 12)
    assert (splits.train.fingerprint, splits.val.fingerprint) == (train.fingerprint, val.fingerprint)
    assert (splits.mean, splits.std) == channel_statistics(train.images) != channel_statistics(kept.images)

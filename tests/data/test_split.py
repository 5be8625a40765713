"""Splits are stratified, complete and a function of their seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numbered import numbered, numbers
from sklearn.model_selection import train_test_split

from cifar.data.images import DataError, channel_statistics
from cifar.data.random_split import split, subset
from cifar.data.split import prepare


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


@pytest.mark.parametrize("size", [300, 301, 5000, 299, 2])
def test_a_side_without_every_class_is_refused(size: float) -> None:
    with pytest.raises(DataError, match=rf"data\.val_size.*{size:g}.* of 300 images in 3 classes"):
        split(numbered([150, 100, 50]), size, seed=0)


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"the smallest has 1"):
        split(numbered([20, 1]), 0.5, seed=0)


def test_a_subset_is_stratified_and_keeps_all_where_there_are_no_more() -> None:
    images = numbered([150, 100, 50])
    assert subset(images, 60, seed=0).labels.bincount().tolist() == [30, 20, 10]
    for count in (None, 300, 1000):
        assert subset(images, count, seed=0) is images


def test_images_are_limited_before_they_are_split_and_statistics_are_of_those_to_train_on() -> None:
    images = numbered([150, 100, 50])
    splits = prepare(images, 60, 0.2, 3)
    kept = subset(images, 60, 3)
    train, val = split(kept, 0.2, 3)
    assert (len(splits.train), len(splits.val)) == (48, 12)
    assert (splits.train.fingerprint, splits.val.fingerprint) == (train.fingerprint, val.fingerprint)
    assert (splits.mean, splits.std) == channel_statistics(train.images) != channel_statistics(kept.images)


@pytest.mark.parametrize("counts", [[200, 2], [200, 3, 2], [50, 50, 50, 2, 2, 2], [2, 2, 2], [990, 4, 4, 2]])
@pytest.mark.parametrize("size", [0.1, 0.2, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_small_classes_are_on_both_sides(counts: list[int], size: float, seed: int) -> None:
    images = numbered(counts)
    size = max(size, len(counts))
    if size > sum(counts) - len(counts):
        size = len(counts)
    rest, part = split(images, size, seed)
    for side in (rest, part):
        assert side.labels.bincount(minlength=len(counts)).min() >= 1
    assert len(part) == size and sorted(numbers(rest) + numbers(part)) == list(range(sum(counts)))
    assert numbers(part) == numbers(split(images, size, seed)[1])


@pytest.mark.parametrize("size", [0.1, 0.5, 0.95])
def test_a_share_that_rounds_a_class_away_keeps_it(size: float) -> None:
    for side in split(numbered([100, 2, 3]), size, seed=0):
        assert side.labels.bincount(minlength=3).min() >= 1


def test_a_split_with_all_classes_is_that_of_scikit_learn() -> None:
    images = numbered([150, 100, 50])
    _, expected = train_test_split(np.arange(300), test_size=60, stratify=images.labels.numpy(), random_state=4)
    assert numbers(split(images, 60, seed=4)[1]) == sorted(expected)


@pytest.mark.parametrize("limit", [12, 60, 100])
def test_a_limit_keeps_two_of_each_class_so_that_it_can_be_split(limit: int) -> None:
    images = numbered([200, 3, 2, 100])
    assert subset(images, limit, seed=0).labels.bincount(minlength=4).min() >= 2
    splits = prepare(images, limit, 4, 0)
    assert len(splits.train) + len(splits.val) == limit
    assert splits.val.labels.bincount(minlength=4).min() == splits.train.labels.bincount(minlength=4).min() == 1


def test_classes_that_are_too_small_are_named_with_all_counts() -> None:
    with pytest.raises(DataError, match=r"\(c2 0, c1 1, c3 7, c0 20\).*at least two images in each class"):
        split(numbered([20, 1, 0, 7]), 4, seed=0)
    with pytest.raises(DataError, match=r"\(c29 1, .*, and 10 larger ones\)"):
        split(numbered([5] * 29 + [1]), 30, seed=0)


@pytest.mark.parametrize(("limit", "size", "train", "val"), [(None, 0.001, 297, 3), (20, 0.1, 17, 3), (7, 0.99, 3, 4)])
def test_a_share_is_at_least_one_image_of_each_class_on_both_sides(
    limit: int | None, size: float, train: int, val: int
) -> None:
    splits = prepare(numbered([150, 100, 50]), limit, size, 0)
    assert (len(splits.train), len(splits.val)) == (train, val)
    assert min(splits.train.labels.bincount().tolist()) >= 1 <= min(splits.val.labels.bincount().tolist())


@pytest.mark.parametrize(
    "limit, val_size, message",
    [
        (5, 0.5, r"^data\.limit=5: .*allowed: 6 \(two of each class"),
        (299, 0.5, r"^data\.limit=299: .*to 297, or null \(all\)"),
        (40, 39, r"^data\.limit=40: leaves 39 images to validate on.* and 1 to train on.*allowed: at least 42,"),
        (None, 299, r"^data\.val_size=299: .*allowed: 3 to 297 images"),
    ],
)
def test_the_setting_that_is_the_cause_is_named(limit: int | None, val_size: float, message: str) -> None:
    images = numbered([150, 100, 50])
    with pytest.raises(DataError, match=message):
        prepare(images, limit, val_size, 0)


def test_a_limit_keeps_a_class_of_one_image() -> None:
    assert subset(numbered([20, 1, 20]), 11, 0, parts=1).labels.bincount().tolist() == [5, 1, 5]

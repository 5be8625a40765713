"""A split by content is exact, stays when images are added, removed or renamed, and divides no unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import numbered, numbers

from cifar.data import content_split
from cifar.data.digests import digest_of_pixels
from cifar.data.groups import group_numbers
from cifar.data.images import DataError, Images
from cifar.data.split import prepare
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.resources import Resources
from cifar.run_data import load_splits, load_test_images

ORDER_IN_0_2 = [81, 105, 181, 228, 232, 286]
"""The validation images of version 0.2, by their numbers."""


def known(counts: list[int]) -> Images:
    """Images that hold their number, with their digests."""
    images = numbered(counts)
    digests = b"".join(digest_of_pixels(image.permute(1, 2, 0).numpy()) for image in images.images)
    return replace(images, digests=torch.from_numpy(np.frombuffer(digests, np.uint8).copy().reshape(-1, 16)))


def copied(images: Images, of: list[int], to: list[int]) -> Images:
    """The images `to` become copies of those at `of`."""
    assert images.digests is not None
    digests = images.digests.clone()
    digests[to] = digests[of]
    return replace(images, digests=digests)


@pytest.mark.parametrize("size, counts", [(0.2, [30, 20, 10]), (0.1, [15, 10, 5]), (61, [31, 20, 10]), (3, [1, 1, 1])])
def test_shares_are_exact_in_each_class(size: float, counts: list[int]) -> None:
    images = known([150, 100, 50])
    rest, part = content_split.split(images, size, 0)
    assert part.labels.bincount().tolist() == counts
    assert sorted(numbers(rest) + numbers(part)) == list(range(300))


def test_a_split_depends_on_the_seed_and_the_content_and_on_no_order() -> None:
    images = known([150, 100, 50])
    shuffled = images.take(np.random.default_rng(1).permutation(300))
    one = set(numbers(content_split.split(images, 0.2, 0)[1]))
    assert one == set(numbers(content_split.split(shuffled, 0.2, 0)[1]))
    assert one != set(numbers(content_split.split(images, 0.2, 1)[1]))
    assert one != set(numbers(content_split.split(images, 0.2, 0, "test")[1]))


def test_an_image_more_or_less_moves_one_other_at_most() -> None:
    images = known([150, 100, 50])
    before = set(numbers(content_split.split(images, 0.2, 0)[1]))
    for removed in range(0, 300, 7):
        fewer = images.take(np.delete(np.arange(300), removed))
        after = set(numbers(content_split.split(fewer, 0.2, 0)[1]))
        assert len((before ^ after) - {removed}) <= 1


def test_20_added_and_20_removed_of_1000_change_the_side_of_at_most_40() -> None:
    images = known([340, 340, 340])
    first, second = images.take(np.arange(1000)), images.take(np.arange(20, 1020))
    before, after = (set(numbers(content_split.split(each, 0.2, 0)[1])) for each in (first, second))
    stayed = set(range(20, 1000))
    assert len((before ^ after) & stayed) <= 40


def test_copies_are_on_one_side_also_where_their_labels_differ() -> None:
    images = copied(known([150, 100, 50]), list(range(40)), list(range(40, 80)))
    rest, part = content_split.split(images, 0.2, 0)
    assert not set(map(bytes, rest.digests.numpy())) & set(map(bytes, part.digests.numpy()))  # type: ignore[union-attr]
    assert part.labels.bincount().tolist() == [30, 20, 10]


def test_groups_are_kept_whole_and_copies_join_them() -> None:
    images = copied(known([150, 100, 50]), [0], [5])
    images = replace(images, groups=group_numbers(str(number // 5) for number in range(300)))
    rest, part = content_split.split(images, 0.2, 0)
    sides = [set(numbers(side)) for side in (rest, part)]
    for group in [*(set(range(start, start + 5)) for start in range(0, 300, 5)), set(range(10))]:
        assert any(group <= side for side in sides)
    assert abs(len(part) - 60) <= 5


def test_folds_are_near_equal_disjoint_and_stay() -> None:
    images = known([150, 100, 50])
    parts = [numbers(content_split.split_fold(images, 4, fold, 0)[1]) for fold in range(4)]
    assert sorted(number for part in parts for number in part) == list(range(300))
    assert {len(part) for part in parts} <= {74, 75, 76}
    fewer = images.take(np.arange(1, 300))
    later = [numbers(content_split.split_fold(fewer, 4, fold, 0)[1]) for fold in range(4)]
    assert sum(len((set(a) ^ set(b)) - {0}) for a, b in zip(parts, later, strict=True)) <= 2 * 3


def test_the_order_is_what_it_was() -> None:
    """Studies and runs rely on it: another order would move their validation images."""
    part = content_split.split(known([150, 100, 50]), 0.02, 0)[1]
    assert sorted(numbers(part)) == ORDER_IN_0_2


def test_a_limit_keeps_the_shares() -> None:
    splits = prepare(known([150, 100, 50]), 60, 0.2, 0, method="content")
    assert splits.train.labels.bincount().tolist() == [24, 16, 8]
    assert splits.val.labels.bincount().tolist() == [6, 4, 2]


def test_a_class_of_copies_cannot_be_split() -> None:
    images = known([4, 4])
    cats = (images.labels == 0).nonzero().flatten().tolist()
    with pytest.raises(DataError, match=r"a class cannot be in each of 2 parts.*data\.split=random"):
        content_split.split(copied(images, cats[:1] * 3, cats[1:]), 0.5, 0)


def test_content_is_refused_where_the_source_does_not_know_it(settings: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"data\.split=content: not with data\.source=digits; allowed: random"):
        settings("data=digits", "data.split=content")


def test_a_folder_without_parts_is_split_into_three(
    settings: Callable[..., Config], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(each=20) / "train"
    keys = ("data=image_folder", f"data.root={root}", "data.test_size=0.25", "data.val_size=0.2")
    config = settings(*keys, "test=true", f"cache.dir={tmp_path / 'cache'}")
    splits = load_splits(config)
    test = load_test_images(config, splits)
    assert [len(part) for part in (splits.train, splits.val, test)] == [24, 6, 10]
    names = [set(part.names) for part in (splits.train, splits.val, test)]
    assert len(set.union(*names)) == 40


def test_a_folder_of_three_images_of_each_class_is_split_into_three_and_one_of_two_is_refused(
    settings: Callable[..., Config], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(each=3) / "train"
    config = settings("data=image_folder", f"data.root={root}", f"cache.dir={tmp_path / 'cache'}")
    splits = load_splits(config, Resources())
    parts = (splits.train, splits.val, load_test_images(config, splits, Resources()))
    assert [part.labels.bincount().tolist() for part in parts] == [[1, 1]] * 3
    (root / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=r"the smallest has 2 of all classes \(cat 2, dog 3\).*or data\.test_size=0"):
        load_splits(config, Resources())


def test_a_folder_without_parts_has_no_validation_part(
    settings: Callable[..., Config], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(each=20) / "train"
    keys = ("data=image_folder", f"data.root={root}", "data.val_from=val_folder", f"cache.dir={tmp_path / 'cache'}")
    with pytest.raises(DataError, match=r"data\.val_from=val_folder needs val/<class>/\*"):
        load_splits(settings(*keys), Resources())


@pytest.mark.parametrize("key", ["val_size", "test_size", "calibration_size"])
def test_a_size_is_a_share_or_a_whole_number(settings: Callable[..., Config], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}=10\.5: allowed: a fraction below 1, or a whole number"):
        settings("data=image_folder", "data.root=x", f"data.{key}=10.5")


def test_a_limit_may_keep_all_images_of_a_small_class() -> None:
    assert content_split.subset(known([20, 2]), 10, 0).labels.bincount().tolist() == [8, 2]


def test_a_limit_that_would_leave_nothing_of_a_class_is_refused() -> None:
    images = known([40, 6])
    burst = replace(images, groups=torch.where(images.labels == 1, 50, torch.arange(46)))
    with pytest.raises(DataError, match=r"data\.limit=8: no image of .* would be left"):
        content_split.subset(burst, 8, 0, parts=1)

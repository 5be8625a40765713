"""Folds and groups: each image is in one fold, classes are spread evenly, no group is divided."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import numbered, numbers

from cifar.data.groups import group_numbers, groups_by_pattern
from cifar.data.images import DataError, Images
from cifar.data.partition import partition
from cifar.data.split import Splits, prepare
from cifar.experiment import load_splits, run
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources

COUNTS = [150, 100, 23]


def grouped(counts: list[int], size: int) -> Images:
    """Numbered images in groups of about this size, several classes in each."""
    images = numbered(counts)
    generator = torch.Generator().manual_seed(0)
    return replace(images, groups=torch.randint(len(images) // size, (len(images),), generator=generator))


def sides(splits: Splits) -> tuple[set[int], set[int]]:
    assert splits.train.groups is not None and splits.val.groups is not None
    return set(splits.train.groups.tolist()), set(splits.val.groups.tolist())


@pytest.mark.parametrize("folds", [2, 5, 23])
def test_each_image_is_in_one_fold_and_the_folds_of_a_class_differ_by_one_image(folds: int) -> None:
    images = numbered(COUNTS)
    splits = [prepare(images, None, 0.5, 3, folds, fold) for fold in range(folds)]
    assert sorted(number for each in splits for number in numbers(each.val)) == list(range(len(images)))
    for each in splits:
        assert sorted(numbers(each.train) + numbers(each.val)) == list(range(len(images)))
        assert numbers(each.val) == sorted(numbers(each.val))
    counts = torch.stack([each.val.labels.bincount() for each in splits])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1 and counts.sum(1).amax() - counts.sum(1).amin() <= 1
    repeated, other = (numbers(prepare(images, None, 0.5, seed, folds, 0).val) for seed in (3, 4))
    assert numbers(splits[0].val) == repeated != other


def test_a_class_smaller_than_the_folds_is_an_error_with_counts() -> None:
    with pytest.raises(DataError, match=r"^data\.folds=24: .* \(c2 23, c1 100, c0 150\); allowed: at most 23"):
        prepare(numbered(COUNTS), None, 0.1, 0, 24, 0)
    with pytest.raises(DataError, match=r"^data\.limit=12: .*allowed: 15 \(one of each class in 5 folds\)"):
        prepare(numbered(COUNTS), 12, 0.1, 0, 5, 0)
    limited = prepare(numbered([200, 6, 100]), 60, 0.1, 0, 5, 2)
    assert limited.val.labels.bincount(minlength=3).min() == 1 and len(limited.train) + len(limited.val) == 60


@pytest.mark.parametrize("limit, size, folds", [(None, 0.2, None), (None, 60, None), (None, 0.1, 4), (200, 0.3, None)])
def test_groups_stay_whole_and_shares_are_near(limit: int | None, size: float, folds: int | None) -> None:
    images = grouped(COUNTS, 6)
    of_all = [prepare(images, limit, size, 1, folds, fold) for fold in (range(folds) if folds else [None])]
    for splits in of_all:
        train, val = sides(splits)
        assert not train & val
        total = len(splits.train) + len(splits.val)
        assert total == (limit or len(images))
        wanted = total / folds if folds else (size if size >= 1 else size * total)
        assert abs(len(splits.val) - wanted) <= 4
        share = splits.val.labels.bincount(minlength=3) / torch.bincount(images.labels)
        assert (share - wanted / len(images)).abs().max() < 0.12
    if folds:
        assert sorted(number for each in of_all for number in numbers(each.val)) == list(range(len(images)))
    repeated, other = (numbers(prepare(images, limit, size, seed, folds, folds and 0).val) for seed in (1, 2))
    assert numbers(of_all[0].val) == repeated != other


def test_no_part_is_worse_than_that_of_scikit_learn() -> None:
    """In its sizes, where there are 30 groups of several sizes."""
    from sklearn.model_selection import StratifiedGroupKFold

    random = np.random.default_rng(0)
    weights = random.exponential(size=30)
    groups = np.unique(random.choice(30, 600, p=weights / weights.sum()), return_inverse=True)[1]
    labels = random.integers(0, 3, 600)
    parts = partition(labels, groups, [0.2] * 5, 0)
    theirs = np.empty_like(parts)
    for fold, (_, val) in enumerate(
        StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
    ):
        theirs[val] = fold
    spread, expected = (np.ptp(np.bincount(each, minlength=5)) for each in (parts, theirs))
    assert spread <= expected and all(len(np.unique(parts[groups == group])) == 1 for group in np.unique(groups))


def test_a_rare_class_is_brought_to_each_part() -> None:
    """A class of two groups, both of which a small part would rather not take."""
    labels = np.array([0] * 100 + [1] * 20)
    groups = np.concatenate([np.arange(100), np.repeat([100, 101], 10)])
    for seed in range(5):
        parts = partition(labels, groups, [0.95, 0.05], seed)
        assert np.unique(parts[labels == 1]).tolist() == [0, 1]


def test_too_few_groups_are_an_error_with_counts_that_names_its_cause() -> None:
    images = numbered([20, 12])
    one = replace(images, groups=torch.where(images.labels == 1, 0, torch.arange(32) + 1))
    with pytest.raises(DataError, match=r"^data\.groups: too few groups .*: c1 1, c0 20; allowed: at least 2 groups"):
        prepare(one, None, 0.2, 0)
    with pytest.raises(DataError, match=r"in 5 parts .*; allowed: fewer folds, at least 5 groups"):
        prepare(one, None, 0.2, 0, 5, 0)
    pairs = replace(images, groups=torch.where(images.labels == 1, torch.arange(32) % 2, torch.arange(32) + 2))
    limits = range(4, 12)
    messages = []
    for limit in limits:
        try:
            prepare(pairs, limit, 0.5, 0)
        except DataError as error:
            messages.append(str(error))
    assert messages and all(m.startswith("data.limit=") and "allowed: a larger limit" in m for m in messages)


def in_words(groups: torch.Tensor) -> list[int]:
    """Groups numbered from 0, in the order of their first image."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups.tolist()]


def test_a_pattern_groups_files_by_its_first_capture_group_or_the_whole_match() -> None:
    names = ["p1_0.png", "sub/p1_1.png", "p2_0.png", "x.png"]
    assert in_words(groups_by_pattern(r"p\d+", names[:3], "train")) == [0, 0, 1]
    assert in_words(groups_by_pattern(r"p(\d)_", names[:3], "train")) == [0, 0, 1]
    assert in_words(groups_by_pattern(r"(p\d+)_|$", [*names, "y.png"], "train")) == [0, 0, 1, 2, 3]
    assert in_words(group_numbers(["b", "a", "b", "3"])) == [0, 1, 0, 2]
    files = ["cat/x.png", "dog/x.png"]
    assert in_words(groups_by_pattern("p1|$", ["x.png", "x.png"], "train", files)) == [0, 1]
    assert torch.equal(groups_by_pattern("p1", names, "test")[:2], groups_by_pattern("p1", names[:2], "train"))
    with pytest.raises(DataError, match=r"^data\.groups=regex:p1: not in 2 of 4 file names: p2_0\.png, x\.png;"):
        groups_by_pattern("p1", names, "train")


def test_groups_that_are_tested_on_too_are_told(
    settings: Callable[..., Config], make_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(parts=("train", "test"), each=8)
    for path in (root / "test").rglob("*.png"):
        path.rename(path.with_name(f"{int(path.stem) + 6}_.png"))  # 6 and 7 are in the training part, 8 to 13 are not
    of_folder = ("data=image_folder", f"data.root={root}", r"data.groups='regex:\d+'", "data.limit=null", "test=true")
    config = settings(*of_folder, "epochs=1", "model.depths=[1]", "model.width=2")
    with caplog.at_level(logging.WARNING):
        run(config, str(tmp_path), NO_REPORTER)
    assert "4 of 16 test images are of 2 groups (data.groups) that are also among the images to train" in caplog.text


def test_a_folder_is_grouped_below_its_class_folders(
    settings: Callable[..., Config], make_folder: Callable[..., Path]
) -> None:
    root = make_folder(each=8)
    for path in root.rglob("*.png"):
        path.rename(path.with_name(f"p{int(path.stem) // 2}_{path.name}"))
    of_folder = ("data=image_folder", f"data.root={root}", "data.limit=null", "data.val_size=0.25")
    for more in ([], ["data.folds=4", "data.fold=3"], ["cache.memory_share=1e-9"]):
        splits = load_splits(settings(*of_folder, *more, r"data.groups='regex:(p\d+)_'"), Resources())
        assert (len(splits.train), len(splits.val)) == (12, 4)
        train, val = sides(splits)
        assert (len(train), len(val), train & val) == (3, 1, set())

"""The split of an earlier run, extended to more images: what the run knew stays where it was, new images are split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar.data.extended_split import extended, extended_test, unseen_test, with_calibration, with_val_part
from cifar.data.images import DataError, Images, from_arrays
from cifar.data.known import Known
from cifar.data.split import Splits
from cifar.data.split_file import Row
from cifar.options.config import Config
from cifar.options.data import Data

CLASSES = ("ant", "bee", "cat")


def images_of(numbers: list[int], labels: list[int], groups: list[int] | None = None) -> Images:
    """Images that show a number each."""
    pixels = np.array(numbers, np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    images = from_arrays(pixels, np.array(labels), CLASSES)
    digests = torch.tensor([[number] * 16 for number in numbers], dtype=torch.uint8)
    return replace(images, digests=digests, groups=None if groups is None else torch.tensor(groups))


def row(number: int, part: str, label: str = "ant") -> Row:
    return Row(f"{number}.png", part, label, bytes([number] * 16).hex())


def numbers(images: Images) -> set[int]:
    assert images.digests is not None
    return set(images.digests[:, 0].tolist())


@pytest.fixture
def option(settings: Callable[..., Config]) -> Data:
    """val_size is a quarter."""
    return settings("data=image_folder", "data.root=x", "data.limit=null", "data.val_size=0.25").data


def of_three_classes(each: int) -> tuple[list[int], list[int]]:
    return list(range(3 * each)), [number // each for number in range(3 * each)]


KNOWN = Known.of(
    [
        *(row(number, "train", "ant" if number < 20 else "bee") for number in (*range(6), *range(20, 26), 90)),
        *(row(number, "val", "ant" if number < 20 else "bee") for number in (6, 7, 26, 27)),
        *(row(number, "test") for number in (8, 28)),
    ],
    [row(9, "train")],
)


def test_known_images_stay_and_new_ones_are_split_by_class(option: Data) -> None:
    images = images_of(*of_three_classes(20))
    splits = extended(option, images, KNOWN)
    train, val = numbers(splits.train), numbers(splits.val)
    assert {*range(6), *range(20, 26), 9} <= train and {6, 7, 26, 27} <= val
    assert not {8, 28} & (train | val) and len(train) + len(val) == 58
    new = np.array(sorted(val - {6, 7, 26, 27}))
    assert np.bincount(new // 20).tolist() == [3, 3, 5]  # a quarter of 10, 11 and 20, rounded
    renamed = images_of(*(list(reversed(each)) for each in of_three_classes(20)))
    assert numbers(extended(option, renamed, KNOWN).val) == val


def test_what_has_become_of_the_images_is_counted() -> None:
    images = images_of([0, 1, 6, 40], [0, 1, 0, 2])
    assert KNOWN.relabelled(images) == 1 and KNOWN.parts(images).tolist() == ["train", "train", "val", ""]
    present = [bytes([number] * 16).hex() for number in range(40)]
    assert KNOWN.removed(present) == 1  # image 90


def test_a_class_has_images_on_both_sides_where_it_can(option: Data) -> None:
    few = images_of([0, 1, 6, 20, 26, 40, 41], [0, 0, 0, 1, 1, 2, 2])
    splits = extended(option, few, KNOWN)
    assert not splits.train.missing_classes() and not splits.val.missing_classes()
    with pytest.raises(DataError, match="none of ant is left to train on; allowed: add images, or remove the class"):
        extended(option, images_of([6, 7, 20, 26, 40, 41], [0, 0, 1, 1, 2, 2]), KNOWN)


def test_new_images_of_a_known_group_join_it(option: Data) -> None:
    everything, labels = of_three_classes(20)
    groups = [1 if n in (0, 10, 11) else 2 if n in (6, 12, 13) else 3 if n in (8, 14) else 100 + n for n in everything]
    splits = extended(option, images_of(everything, labels, groups), KNOWN)
    assert {10, 11} <= numbers(splits.train) and {12, 13} <= numbers(splits.val)
    assert 14 not in numbers(splits.train) | numbers(splits.val)


def test_a_part_for_validation_is_without_images_of_the_other_side(
    option: Data, caplog: pytest.LogCaptureFixture
) -> None:
    train, val = images_of([0, 6, 8, 20, 40], [0, 0, 0, 1, 2]), images_of([1, 7, 27, 50], [0, 0, 1, 2])
    splits = with_val_part(option, Splits(train, val, [0.0] * 3, [1.0] * 3, "val_folder"), KNOWN)
    assert numbers(splits.train) == {0, 20, 40} and numbers(splits.val) == {7, 27, 50}
    assert "2 of 5 images of part train are left out" in caplog.text and "1 of 4 images of part val" in caplog.text


def test_images_for_calibration_are_some_that_were_not_trained_on(
    option: Data, caplog: pytest.LogCaptureFixture
) -> None:
    known = Known.of([*KNOWN.rows, row(10, "calibration"), row(11, "calibration")], KNOWN.former)
    splits = extended(option, images_of(*of_three_classes(20)), known)
    assert with_calibration(splits, 0, 0, known) is splits and {10, 11} <= numbers(splits.train)
    divided = with_calibration(splits, 0.2, 0, known)
    assert divided.calibration is not None
    chosen = numbers(divided.calibration)
    assert {10, 11} <= chosen and not chosen & {*range(6), 9, *range(20, 26)} and len(chosen) == 12
    assert numbers(divided.train) | chosen == numbers(splits.train) and not numbers(divided.train) & chosen
    with_calibration(splits, 40, 0, known)
    assert "images in place of 40" in caplog.text
    few = images_of([0, 1, 6, 20, 26, 40, 41, 42], [0, 0, 0, 1, 1, 2, 2, 2])
    with pytest.raises(DataError, match=r"data\.calibration_size=0\.2: too few images of ant, bee to set some apart"):
        with_calibration(extended(option, few, known), 0.2, 0, known)


def test_the_test_part_of_images_without_parts_stays(option: Data) -> None:
    images = images_of(*of_three_classes(20))
    rest, test = extended_test(0.2, images, KNOWN)
    assert {8, 28} <= numbers(test) and not numbers(test) & {*range(8), 9, *range(20, 28)}
    assert len(test) == 12 and len(rest) == 48


def test_copies_in_several_parts_are_training_images_and_runs_are_chained(tmp_path: Path) -> None:
    known = Known.of([row(1, "val"), row(1, "train", "bee"), row(2, "val")], [row(3, "train"), row(2, "train")])
    parts = known.parts(images_of([1, 2, 3, 4], [0, 0, 0, 0])).tolist()
    assert parts == ["train", "val", "train", ""]
    known.write(tmp_path)
    assert Known.read(tmp_path) == known
    assert Known.read(tmp_path / "none") is None


def test_what_the_run_was_trained_on_is_not_tested_on(caplog: pytest.LogCaptureFixture) -> None:
    test = images_of([0, 6, 8, 9, 50], [0] * 5)
    assert numbers(unseen_test(test, KNOWN)) == {6, 8, 50} and unseen_test(test, None) is test
    assert "2 of 5 images of part test are left out" in caplog.text
    with pytest.raises(DataError, match="trained on all images of part test"):
        unseen_test(test.take(np.array([0])), KNOWN)

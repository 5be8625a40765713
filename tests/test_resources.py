"""What the runs of one process share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from backbones import SMALL, small

from cifar.experiment import build_trainer, load_splits
from cifar.options.config import Config
from cifar.resources import RecentlyUsed, Resources

CPU = torch.device("cpu")
Settings = Callable[..., Config]


def test_runs_of_one_process_share_the_images_on_the_device(settings: Settings) -> None:
    one, other = (
        build_trainer(config, load_splits(config), CPU)
        for config in (settings("seed=1"), settings("seed=2", "batch_size=8"))
    )
    for part in ("train", "val"):
        assert getattr(one, part).windows.data_ptr() == getattr(other, part).windows.data_ptr()


def test_separate_resources_share_nothing(settings: Settings) -> None:
    one, other = (
        build_trainer(settings(), load_splits(settings(), resources), CPU, resources=resources)
        for resources in (Resources(), Resources())
    )
    assert one.train.windows.data_ptr() != other.train.windows.data_ptr()
    assert torch.equal(one.train.windows, other.train.windows)


def test_a_split_is_computed_once(settings: Settings) -> None:
    resources = Resources()
    one, other = (load_splits(settings(f"seed={seed}"), resources) for seed in (1, 2))
    assert one.train.images.data_ptr() == other.train.images.data_ptr()
    moved = load_splits(settings("data.val_seed=1"), resources)
    assert moved.train.fingerprint != one.train.fingerprint


def test_the_values_used_last_are_kept() -> None:
    calls: list[str] = []

    def make(key: str) -> Callable[[], str]:
        def value() -> str:
            calls.append(key)
            return key.upper()

        return value

    recent = RecentlyUsed[str](2)
    assert [recent.get(key, make(key)) for key in "abacab"] == ["A", "B", "A", "C", "A", "B"]
    assert calls == ["a", "b", "c", "b"]


def test_an_error_keeps_nothing() -> None:
    recent = RecentlyUsed[int](2)
    with pytest.raises(ZeroDivisionError):
        recent.get("key", lambda: 1 // 0)
    assert recent.get("key", lambda: 7) == 7


def test_a_backbone_is_built_once_and_counts_its_images_for_each_run() -> None:
    resources = Resources()
    one = resources.backbone({"_target_": SMALL, "depths": [1, 1], "width": 4}, "random", None, None, 16)
    one.features(torch.zeros(3, 3, 32, 32, dtype=torch.uint8))
    other = resources.backbone({"_target_": SMALL, "depths": [1, 1], "width": 4}, "random", None, None, 16)
    assert one.model is other.model
    assert (one.images_seen, other.images_seen) == (3, 0)
    larger = resources.backbone({"_target_": SMALL, "depths": [1, 1], "width": 4}, "random", None, None, 24)
    assert larger.model is not one.model


def test_a_weights_file_that_is_replaced_in_its_place_is_loaded_again(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    resources = Resources()
    hashes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        torch.save(small().state_dict(), weights)
        os.utime(weights, (seed, seed))
        target = {"_target_": SMALL, "depths": [1, 1], "width": 4}
        hashes.append(resources.backbone(target, str(weights), None, None, 16).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_fixes_that_are_edited_meanwhile_are_read_again(
    settings: Settings, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    file, resources = tmp_path / "fixes.csv", Resources()
    place = (f"data.root={make_folder(each=10)}", f"data.fixes={file}", "data.limit=null", "data.val_size=0.2")
    config = settings("data=image_folder", *place)
    counts = []
    for dropped in ("train/cat/1.png,drop,\n", "train/cat/1.png,drop,\ntrain/cat/2.png,drop,\n"):
        file.write_text(f"file,action,label\n{dropped}")
        splits = load_splits(config, resources)
        counts.append(len(splits.train) + len(splits.val))
    assert counts[0] - counts[1] == 1

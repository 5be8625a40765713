"""Features are computed once, block by block, and are those of the backbone inside the loop."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models as tv
from backbones import CPU, backbone, new_cache, small, some_images
from safetensors.torch import load_file, save_file
from torch import nn

from cifar import cache as cache_command
from cifar.data.loader import FeatureLoader
from cifar.files import FileError
from cifar.models import feature_cache
from cifar.models.pretrained import load_backbone


@pytest.mark.parametrize("make", [small, tv.resnet50], ids=["small", "resnet50"])
def test_training_on_cached_features_equals_the_backbone_inside_the_loop_bit_for_bit(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    network = load_backbone(make, "a.network", {}, "random", image_size=32)
    images = some_images()

    def trained(rows: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(0)
        head = nn.Linear(network.width, 4)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
        for epoch in (1, 2):
            for order in batches.draw(epoch)[0].split(32):
                optimizer.zero_grad()
                F.cross_entropy(head(rows(order)), images.labels[order]).backward()
                optimizer.step()
        return head.weight.detach()

    features = new_cache(tmp_path).get(network, images).features
    batches = FeatureLoader(features[None], images.labels, 32, CPU, seed=0)
    plain = trained(lambda order: network.features(images.images[order]))
    assert torch.equal(trained(lambda order: features[order]), plain)
    assert all(torch.equal(x, features[batches.draw(1)[0][:32]]) for x, _ in list(batches.epoch(1))[:1])


def test_each_image_passes_the_backbone_once_and_later_not_at_all(tmp_path: Path) -> None:
    first, images = backbone(), some_images(50)
    features = new_cache(tmp_path).get(first, images)
    assert first.images_seen == 50
    second = new_cache(tmp_path).get(first, images)
    assert first.images_seen == 50
    assert torch.equal(features.features, second.features) and features.seconds == second.seconds


@pytest.mark.parametrize(("side", "sizes"), [(224, [20, 20]), (448, [20, 20]), (32, [40])])
def test_on_a_cpu_a_large_batch_passes_in_parts_which_changes_nothing(
    side: int, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = backbone(image_size=side), some_images(40)
    whole = network.features(images.images)
    features, passed = network.features, []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        passed.append(len(batch))
        return features(batch)

    monkeypatch.setattr(network, "features", counted)
    assert torch.equal(new_cache(tmp_path, 64).get(network, images).features, whole)
    assert passed == sizes


def test_every_part_of_the_key_gives_another_entry(tmp_path: Path) -> None:
    images, plain = some_images(), backbone()
    other_weights = small()
    torch.save(other_weights.state_dict(), tmp_path / "w.pth")
    mean = replace(plain, preprocess=replace(plain.preprocess, mean=(0.5, 0.5, 0.5)))
    usual = new_cache(tmp_path)
    keys = {
        usual.get(plain, images).key,
        usual.get(backbone(str(tmp_path / "w.pth")), images).key,
        usual.get(backbone(image_size=24), images).key,
        usual.get(mean, images).key,
        usual.get(plain, some_images(seed=1)).key,
        usual.get(plain, images.take(np.arange(64)[::-1].copy())).key,
        new_cache(tmp_path, precision="torch.bfloat16").get(plain, images).key,
        new_cache(tmp_path, batch_size=16).get(plain, images).key,
    }
    assert len(keys) == 8
    assert len(cache_command.entries(tmp_path)) == 8


def test_an_interrupted_extraction_resumes_after_its_last_finished_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "BATCHES_PER_BLOCK", 2)
    images, stopping = some_images(40), backbone()
    whole = new_cache(tmp_path / "other", 4).get(stopping, images)
    features, stopping.images_seen = stopping.features, 0

    def until_it_stops(batch: torch.Tensor) -> torch.Tensor:
        if stopping.images_seen == 20:
            raise KeyboardInterrupt
        return features(batch)

    monkeypatch.setattr(stopping, "features", until_it_stops)
    with pytest.raises(KeyboardInterrupt):
        new_cache(tmp_path, 4).get(stopping, images)
    second = backbone()
    resumed = new_cache(tmp_path, 4).get(second, images)
    assert second.images_seen == 40 - 16
    assert torch.equal(resumed.features, whole.features)
    assert not list((tmp_path / "features").glob("*.parts"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"")], ids=["flip", "cut", "empty"])
def test_a_damaged_entry_is_computed_again(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    first, images = backbone(), some_images()
    whole = new_cache(tmp_path).get(first, images).features.clone()
    (path,) = (tmp_path / "features").glob("*.safetensors")
    damage(path)
    assert torch.equal(new_cache(tmp_path).get(first, images).features, whole)
    assert first.images_seen == 128


def test_a_full_disk_is_an_error_and_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="the disk is full"):
        new_cache(tmp_path).get(backbone(), some_images())
    monkeypatch.undo()
    assert not list((tmp_path / "features").rglob("*.safetensors"))


def extract(folder: Path) -> None:
    torch.set_num_threads(1)
    small_backbone = backbone()
    new_cache(folder).get(small_backbone, some_images(200))
    (folder / f"{os.getpid()}.seen").write_text(str(small_backbone.images_seen))


def test_of_processes_that_ask_at_once_one_computes(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=extract, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(int(path.read_text()) for path in tmp_path.glob("*.seen")) == [0, 200]


def test_an_entry_has_the_name_and_the_content_that_earlier_versions_gave_it(tmp_path: Path) -> None:
    first, images = backbone(), some_images(20)
    features = new_cache(tmp_path).get(first, images)
    parts = {
        "backbone": "cifar.resnet.BottleneckResNet",  # where it was when the first entries were written
        "options": {},
        "weights_sha256": first.sha256,
        "preprocess": asdict(first.preprocess),
        "data": images.fingerprint,
        "images": 20,
        "precision": "torch.float32",
        "batch_size": 32,
        "device": "cpu",
        "versions": {name: version(name) for name in ("torch", "torchvision")},
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    assert features.key == key
    other = load_file(tmp_path / "features" / f"{key}.safetensors")["features"] + 1
    metadata = {"parts": json.dumps(parts), "seconds": "2.5", "sha256": hashlib.sha256(other.numpy().data).hexdigest()}
    earlier = tmp_path / "earlier" / "features" / f"{key}.safetensors"
    earlier.parent.mkdir(parents=True)
    save_file({"features": other}, earlier, metadata)
    second = new_cache(tmp_path / "earlier").get(first, images)
    assert torch.equal(second.features, other) and second.seconds == 2.5
    assert first.images_seen == 20


def test_caches_that_share_their_checked_entries_map_each_once(tmp_path: Path) -> None:
    first, images = backbone(), some_images(20)
    one, other = new_cache(tmp_path), new_cache(tmp_path)
    other.checked = one.checked
    features = one.get(first, images)
    assert other.get(first, images) is features
    assert new_cache(tmp_path).get(first, images) is not features
    (path,) = (tmp_path / "features").glob("*.safetensors")
    path.unlink()
    assert torch.equal(other.get(first, images).features, features.features)
    assert first.images_seen == 40, "an entry that was removed is computed second"

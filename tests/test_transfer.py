from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.models as tv
from safetensors.torch import save_file
from torch import nn

from cifar import cache as cache_command
from cifar import experiment
from cifar.data.augment import augmented
from cifar.data.images import Images, _images
from cifar.data.loader import FeatureLoader
from cifar.experiment import BACKBONES, build_trainer, load_classifier, load_parts, run
from cifar.files import FileError
from cifar.models import feature_cache, pretrained
from cifar.models.feature_cache import FeatureCache
from cifar.models.finetune import stages
from cifar.models.pretrained import Backbone, Preprocess, TransferError, find_classifier, load_backbone
from cifar.models.resnet import BottleneckResNet
from cifar.options.check import check
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER
from cifar.results import read_metrics
from cifar.training.step import autocast

CPU = torch.device("cpu")
Compose = Callable[..., Any]
Train = Callable[..., tuple[Path, float]]
SMALL = "cifar.models.resnet.BottleneckResNet"
MEAN = "data.mean=[0.5,0.5,0.5]"
TRANSFER = (
    f"transfer.backbone._target_={SMALL}",
    "+transfer.backbone.depths=[1,1]",
    "+transfer.backbone.width=4",
    "transfer.weights=random",
    "transfer.image_size=32",
)


def small() -> nn.Module:
    return BottleneckResNet([1, 1], width=4)


def backbone(weights: str = "random", **options: Any) -> Backbone:
    return load_backbone(small, SMALL, {}, weights, **{"image_size": 16, **options})


def some_images(count: int = 64, seed: int = 0) -> Images:
    random = np.random.default_rng(seed)
    return _images(random.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 4, tuple("abcd"))


def new_cache(folder: Path, batch_size: int = 32, precision: str = "torch.float32") -> FeatureCache:
    return FeatureCache(folder / "features", CPU, batch_size, precision, autocast(CPU, torch.float32))


@pytest.fixture(autouse=True)
def nothing_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "_checked", {})


# --- features


@pytest.mark.parametrize("make", [small, tv.resnet50], ids=["small", "resnet50"])
def test_training_on_cached_features_equals_the_backbone_inside_the_loop_bit_for_bit(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    found = load_backbone(make, "a.network", {}, "random", image_size=32)
    images = some_images()

    def trained(rows: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(0)
        head = nn.Linear(found.width, 4)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
        for epoch in (1, 2):
            for order in batches.draw(epoch)[0].split(32):
                optimizer.zero_grad()
                F.cross_entropy(head(rows(order)), images.labels[order]).backward()
                optimizer.step()
        return head.weight.detach()

    features = new_cache(tmp_path).get(found, images).features
    batches = FeatureLoader(features[None], images.labels, 32, CPU, seed=0)
    plain = trained(lambda order: found.features(images.images[order]))
    assert torch.equal(trained(lambda order: features[order]), plain)
    assert all(torch.equal(x, features[batches.draw(1)[0][:32]]) for x, _ in list(batches.epoch(1))[:1])


def test_each_image_passes_the_backbone_once_and_later_not_at_all(tmp_path: Path) -> None:
    first, images = backbone(), some_images(50)
    made = new_cache(tmp_path).get(first, images)
    assert first.seen == 50
    feature_cache._checked.clear()
    again = new_cache(tmp_path).get(first, images)
    assert first.seen == 50
    assert torch.equal(made.features, again.features) and made.seconds == again.seconds


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


def test_batch_norm_buffers_are_part_of_the_weights() -> None:
    first, second = backbone(), backbone()
    assert first.sha256 == second.sha256
    second.model.bn1.running_mean += 1  # type: ignore[operator, union-attr]
    assert pretrained.state_hash(second.model.state_dict()) != first.sha256


def test_an_interrupted_extraction_goes_on_after_its_last_finished_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "BLOCK", 2)
    images, stopping = some_images(40), backbone()
    whole = new_cache(tmp_path / "other", 4).get(stopping, images)
    features, stopping.seen = stopping.features, 0

    def until_it_stops(batch: torch.Tensor) -> torch.Tensor:
        if stopping.seen == 20:
            raise KeyboardInterrupt
        return features(batch)

    monkeypatch.setattr(stopping, "features", until_it_stops)
    with pytest.raises(KeyboardInterrupt):
        new_cache(tmp_path, 4).get(stopping, images)
    again = backbone()
    found = new_cache(tmp_path, 4).get(again, images)
    assert again.seen == 40 - 16
    assert torch.equal(found.features, whole.features)
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
    feature_cache._checked.clear()
    (path,) = (tmp_path / "features").glob("*.safetensors")
    damage(path)
    assert torch.equal(new_cache(tmp_path).get(first, images).features, whole)
    assert first.seen == 128


def test_a_full_disk_is_told_and_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="the disk is full"):
        new_cache(tmp_path).get(backbone(), some_images())
    monkeypatch.undo()
    assert not list((tmp_path / "features").rglob("*.safetensors"))


def extract(folder: Path) -> None:
    torch.set_num_threads(1)
    found = backbone()
    new_cache(folder).get(found, some_images(200))
    (folder / f"{os.getpid()}.seen").write_text(str(found.seen))


def test_of_processes_that_ask_at_once_one_computes(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=extract, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(int(path.read_text()) for path in tmp_path.glob("*.seen")) == [0, 200]


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


# --- backbones and weights


def test_the_preprocessing_is_that_of_the_weights() -> None:
    images = some_images(4).images
    weights = tv.ResNet50_Weights.IMAGENET1K_V2
    theirs = weights.transforms()
    ours = pretrained._preprocess("torchvision.models.resnet50", "IMAGENET1K_V2", nn.Identity(), None)
    assert (ours.resize, ours.crop) == (232, 224)
    assert torch.equal(ours(images), theirs(images))
    half = pretrained._preprocess("torchvision.models.resnet50", "IMAGENET1K_V2", nn.Identity(), 64)
    assert half(images).shape == (4, 3, 64, 64)


@pytest.mark.parametrize(
    "name, last",
    [("resnet18", "fc"), ("efficientnet_b0", "classifier.1"), ("mobilenet_v3_small", "classifier.3")],
)
def test_the_classifier_is_found_by_name(name: str, last: str) -> None:
    with torch.device("meta"):
        assert find_classifier(tv.get_model(name), None) == last


@pytest.mark.parametrize(
    "head, message", [("no", "no part named no.*fc"), (None, "2 classifiers .fc, head"), ("bn", "no linear layer")]
)
def test_a_classifier_that_is_not_there_or_ambiguous_is_told(head: str | None, message: str) -> None:
    net = nn.ModuleDict({"bn": nn.BatchNorm1d(2), "fc": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(TransferError, match=message):
        find_classifier(net, head)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch poisoned",)


def truncated(path: Path) -> None:
    torch.save(small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:3000])


def not_finite(path: Path) -> None:
    state = small().state_dict()
    state["conv1.weight"][0] = torch.nan
    torch.save(state, path)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda path: None, "no such file"),
        (truncated, "not a state dict that can be loaded safely"),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), "nothing in it was run"),
        (lambda path: torch.save([1], path), "names and tensors"),
        (lambda path: torch.save(tv.resnet18().state_dict(), path), "another architecture.*missing.*unexpected"),
        (lambda path: torch.save(BottleneckResNet([1, 1], 8).state_dict(), path), r"of other shapes.*\(8, 3, 3, 3\)"),
        (not_finite, "not finite"),
    ],
    ids=["missing", "truncated", "poisoned", "list", "architecture", "shapes", "nan"],
)
def test_bad_weights_are_told_before_anything_is_computed(
    write: Callable[[Path], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "w.pth")
    with pytest.raises(TransferError, match=message):
        backbone(str(tmp_path / "w.pth"))
    assert not (tmp_path / "poisoned").exists()


def test_weights_of_another_number_of_classes_fit_and_are_used(tmp_path: Path) -> None:
    model = BottleneckResNet([1, 1], 4, num_classes=1000)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "best.pt")
    found = [backbone(str(tmp_path / name)) for name in ("w.safetensors", "best.pt")]
    assert found[0].sha256 == found[1].sha256 != backbone().sha256
    assert torch.equal(found[0].model.conv1.weight, model.conv1.weight)  # type: ignore[arg-type, union-attr]


def test_the_files_hash_is_checked(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "w.pth")
    right = pretrained._digest(tmp_path / "w.pth")
    assert backbone(str(tmp_path / "w.pth"), sha256=right.upper()).weights == str(tmp_path / "w.pth")
    with pytest.raises(TransferError, match=f"its SHA-256 is {right}"):
        backbone(str(tmp_path / "w.pth"), sha256="0" * 64)


def test_an_unknown_name_of_weights_is_told_with_those_there_are() -> None:
    with pytest.raises(TransferError, match=r"IMAGENET1K_V1, IMAGENET1K_V2.*random"):
        load_backbone(tv.resnet50, "torchvision.models.resnet50", {}, "IMAGENET9")


def test_without_internet_it_is_told_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **options: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(tv.ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(TransferError, match=r"checkpoints/resnet18-\w+\.pth, or name it with transfer.weights=FILE"):
        load_backbone(tv.resnet18, "torchvision.models.resnet18", {}, "DEFAULT")


def test_images_too_small_for_the_backbone_are_told() -> None:
    with pytest.raises(TransferError, match=r"transfer.image_size=16: .*alexnet fails on images of 16x16"):
        load_backbone(tv.alexnet, "torchvision.models.alexnet", {}, "random", image_size=16)


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert backbone().sha256 == backbone().sha256
    assert torch.equal(torch.rand(3), expected)


def test_stages_are_layers_and_what_comes_before_them() -> None:
    net = small()
    assert stages(net, 0) == []
    assert [id(part) for part in stages(net, 1)] == [id(net.conv1), id(net.bn1), id(net.layer1)]
    with pytest.raises(TransferError, match=r"allowed: 0 to 2 .layer1, layer2"):
        stages(net, 3)


# --- runs


@pytest.fixture
def train(compose: Callable[..., Any], tiny: list[str], tmp_path: Path) -> Callable[..., tuple[Path, float]]:
    """train(name, *overrides): a tiny run in the folder `name`; the folder and its best validation accuracy."""

    def trained(name: str, *overrides: str) -> tuple[Path, float]:
        pretrained = any(line.startswith("transfer=") for line in overrides)
        general = [line for line in tiny if not (pretrained and line.startswith("model."))]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = check(compose(*general, f"cache.dir={tmp_path}", *overrides))
        return folder, run(config, str(folder), NO_REPORTER)

    return trained


def test_runs_of_one_process_share_the_features(compose: Compose, tiny: list[str], tmp_path: Path) -> None:
    general = [line for line in tiny if not line.startswith("model.")]
    given = (*general, "transfer=frozen", *TRANSFER, "transfer.views=2", "data.crop=2", f"cache.dir={tmp_path}")
    configs = [check(compose(*given, f"seed={seed}")) for seed in (1, 2)]
    one, other = (build_trainer(config, load_parts(config), torch.device("cpu")) for config in configs)
    for part in ("train", "val"):
        assert getattr(one, part).features.data_ptr() == getattr(other, part).features.data_ptr()


@pytest.mark.parametrize("mode", ["frozen", "finetune", "none"])
def test_a_run_is_saved_whole_and_predicts_what_it_was_measured_at(mode: str, train: Train, compose: Compose) -> None:
    given = () if mode == "none" else (f"transfer={mode}", *TRANSFER)
    folder, best = train("run", *given, "epochs=3", "precision=fp32", "optimizer.lr=0.05")
    val = load_parts(check(compose("data=digits", "data.limit=120"))).val
    predicted = load_classifier(folder / "best.pt").predict(val.images)
    share = sum(name == val.classes[label] for name, label in zip(predicted, val.labels.tolist(), strict=True))
    assert share / len(val) == pytest.approx(best)


def test_the_result_names_the_backbone_and_what_was_extracted(train: Train) -> None:
    keys = []
    for number, more in enumerate((["seed=0"], ["seed=1", "optimizer.lr=0.2"], ["transfer.image_size=24"])):
        folder, _ = train(str(number), "transfer=frozen", *TRANSFER, *more)
        found = json.loads((folder / "result.json").read_text())["transfer"]
        keys.append(found["cache_keys"])
        assert found["images_extracted"] == (0 if number == 1 else 120)
        assert found["extraction_seconds"] > 0
        assert found["weights"] == "random" and len(found["weights_sha256"]) == 64
        assert found["backbone"]["_target_"] == SMALL
    assert keys[0] == keys[1] != keys[2]


def test_a_mean_that_is_given_wins_over_that_of_the_weights(train: Train) -> None:
    folders = [train(name, "transfer=frozen", *TRANSFER, *more)[0] for name, more in (("a", ()), ("b", (MEAN,)))]
    found = [json.loads((folder / "result.json").read_text())["transfer"] for folder in folders]
    assert [each["preprocess"]["mean"] for each in found] == [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]
    assert found[0]["cache_keys"] != found[1]["cache_keys"]


def test_the_test_set_is_evaluated_by_its_features(train: Train) -> None:
    folder, _ = train("run", "transfer=frozen", *TRANSFER, "test=true")
    assert json.loads((folder / "result.json").read_text())["test"]["images"] == 180


def test_a_head_resumes_as_if_it_had_not_stopped(train: Train) -> None:
    given = ("transfer=frozen", *TRANSFER, "transfer.views=2", "data.crop=2")
    whole, _ = train("whole", *given, "epochs=4")
    part, _ = train("part", *given, "epochs=2")
    train("part", *given, "epochs=4", f"resume={part}")
    losses = [[m.train_loss for m in read_metrics(folder / "metrics.csv")] for folder in (whole, part)]
    assert len(losses[0]) == 4 and losses[0] == losses[1]


def test_frozen_stages_keep_weights_and_statistics_and_the_backbone_is_slower(train: Train) -> None:
    more = ("transfer.frozen_stages=1", "transfer.backbone_lr_scale=0.1", "optimizer.lr=0.5", "optimizer.momentum=0")
    folder, _ = train("run", "transfer=finetune", *TRANSFER, *more)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    before = backbone().model.state_dict()
    same = {key for key, value in before.items() if torch.equal(value, state["model"][f"backbone.{key}"])}
    assert same == {key for key in before if key.startswith(("conv1", "bn1", "layer1"))}
    rates = {group["lr"] for group in state["optimizer"]["param_groups"]}
    assert sorted(rates) == pytest.approx([0.05, 0.5])
    assert read_metrics(folder / "metrics.csv")[0].lr == 0.5


def test_a_head_of_other_weights_is_refused(train: Train, tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    torch.save(small().state_dict(), weights)
    given = [line for line in TRANSFER if "weights" not in line]
    folder, _ = train("run", "transfer=frozen", *given, f"transfer.weights={weights}")
    torch.manual_seed(9)
    torch.save(small().state_dict(), weights)
    experiment._load_backbone.cache_clear()
    with pytest.raises(TransferError, match="other weights than those"):
        load_classifier(folder / "best.pt")


def test_a_model_beside_a_backbone_is_refused(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"transfer=frozen with model._target_=cifar.resnet"):
        check(compose("transfer=frozen", "model=resnet26"))
    with pytest.raises(ConfigError, match=r"transfer=none with model._target_=cifar.transfer"):
        check(compose("model=pretrained"))
    with pytest.raises(ConfigError, match=r"transfer.views=3: all would be the same"):
        check(compose("transfer=frozen", "data=digits", "transfer.views=3"))


def test_a_backbone_that_may_not_be_called_is_refused(run_py: Callable[..., Any]) -> None:
    done = run_py("transfer=frozen", "data=digits", "transfer.backbone._target_=os.system", "transfer.weights=random")
    assert done.returncode == 1
    assert "error: transfer.backbone=" in done.stderr and "whitelist" in done.stderr
    assert BACKBONES[0] in done.stderr


def test_a_sweep_of_heads_extracts_once(run_py: Callable[..., Any], tiny: list[str], tmp_path: Path) -> None:
    sweep = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=s", f"cache.dir={tmp_path}")
    plain = [line for line in tiny if not line.startswith("model.")]
    done = run_py(*sweep, "transfer=frozen", *TRANSFER, *plain, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / "s" / str(trial) / "result.json").read_text()) for trial in range(3)]
    assert [result["transfer"]["images_extracted"] for result in results] == [120, 0, 0]


def test_the_cache_is_listed_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new_cache(tmp_path).get(backbone(), some_images())
    cache_command.main(["--dir", str(tmp_path)])
    listed = capsys.readouterr().out
    assert f"features of 64 images, {SMALL}, 16 pixels, torch.float32" in listed and "1 entries in" in listed
    cache_command.main(["--dir", str(tmp_path), "clear", "none-of-this-name"])
    assert len(list((tmp_path / "features").glob("*.safetensors"))) == 1
    cache_command.main(["--dir", str(tmp_path), "clear"])
    assert not list((tmp_path / "features").iterdir())


def test_preprocess_survives_a_checkpoint(tmp_path: Path) -> None:
    torch.save(asdict(Preprocess(32, 16)), tmp_path / "p.pt")
    assert Preprocess(**torch.load(tmp_path / "p.pt", weights_only=True)) == Preprocess(32, 16)

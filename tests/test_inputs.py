"""The size that images are brought to: given, or auto; recorded, and taken by the model."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from cifar.content import content_differences, content_of
from cifar.data.memory import total_memory
from cifar.data.preprocessing import InputFormat
from cifar.experiment import load_splits, run
from cifar.inputs import configured_backbone, input_format, request
from cifar.models.resnet import BottleneckResNet
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.former import former_overrides, upgrade_settings
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources
from cifar.results import read_metrics, read_result
from cifar.tasks import InputError
from cifar.trained import load_classifier
from cifar.training import checkpoint

MakeFolder = Callable[..., Path]
Settings = Callable[..., Config]
MODEL = ["model.depths=[1]", "model.width=2"]
TINY = ["epochs=1", "device=cpu", "threads=1", "data.val_size=0.5", "batch_size=4"]
FROZEN = ["transfer=frozen", "transfer.weights=random", "transfer.backbone._target_=torchvision.models.resnet18"]


@pytest.fixture
def of_folder(compose: Callable[..., DictConfig]) -> Callable[..., Config]:
    """of_folder(root, *overrides): the checked config of a run on images in a folder."""

    def configured(root: Path, *more: str) -> Config:
        model = [] if any(override.startswith("transfer=") for override in more) else MODEL
        return check(compose("data=image_folder", f"data.root={root}", *TINY, *model, *more))

    return configured


def ran(config: Config, directory: Path) -> Path:
    directory.mkdir(parents=True)
    run(config, str(directory), NO_REPORTER, resources=Resources())
    return directory


def timeless(directory: Path) -> list[dict[str, Any]]:
    rows = [vars(metrics) for metrics in read_metrics(directory / "metrics.csv")]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


@pytest.mark.parametrize(
    "size, expected", [((28, 28), 28), ((128, 128), 128), ((129, 129), 64), ((40, 41), 64), ((7, 7), 64)]
)
def test_auto_keeps_the_size_of_small_square_images(
    size: tuple[int, int], expected: int, make_folder: MakeFolder, of_folder: Callable[..., Config]
) -> None:
    config = of_folder(make_folder(size=size))
    assert input_format(config, Resources()) == InputFormat(expected)
    assert load_splits(config, Resources()).train.images.shape[1:] == (3, expected, expected)


def test_sizes_are_read_once_and_again_when_a_file_changes(
    make_folder: MakeFolder, of_folder: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(size=(28, 28))
    config = of_folder(root)
    assert input_format(config, Resources()).size == 28
    opened: list[Path] = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **options: opened.append(path) or real(path, **options))
    assert input_format(config, Resources()).size == 28 and not opened
    Image.new("RGB", (30, 30)).save(root / "train" / "cat" / "0.png")
    assert input_format(config, Resources()).size == 64 and opened


def test_auto_is_the_size_of_other_sources(settings: Settings) -> None:
    assert input_format(settings()).size == 32
    assert input_format(settings("data.image_size=auto")).size == 8
    assert load_splits(settings("data.image_size=12")).train.images.shape[1:] == (3, 12, 12)


@pytest.mark.parametrize("value", ["7", "513", "null", "large", "true", "32.5"])
def test_other_sizes_are_refused(value: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"data\.image_size=.*a whole number of pixels.*8.*512.*auto"):
        settings(f"data.image_size={value}")


@pytest.mark.parametrize(
    "more, expected",
    [
        ((), InputFormat(224, resize=256)),
        (("transfer.image_size=48",), InputFormat(48)),
        (("transfer.image_size=48", "data.fit=pad"), InputFormat(48, "pad")),
    ],
)
def test_images_of_any_size_reach_a_backbone_from_their_own_pixels(
    more: tuple[str, ...], expected: InputFormat, make_folder: MakeFolder, of_folder: Callable[..., Config]
) -> None:
    config = of_folder(make_folder(size=(90, 200)), *FROZEN, *more)
    assert input_format(config) == expected
    preprocess = configured_backbone(config).preprocess
    assert preprocess.resize == preprocess.crop == expected.size
    images = load_splits(config).val.images[:]
    assert torch.equal(preprocess.resize_and_crop(images), images)


def test_a_smaller_copy_on_the_way_to_a_backbone_is_said(
    make_folder: MakeFolder, of_folder: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(size=(60, 60))
    config = of_folder(root, *FROZEN, "transfer.image_size=48", "data.image_size=32")
    ran(config, tmp_path / "small")
    assert "data.image_size=32: the backbone takes 48 pixels" in caplog.text
    assert configured_backbone(config).preprocess.resize == 48
    assert load_classifier(tmp_path / "small" / "best.pt").size == 32


def test_a_run_records_its_size_and_its_model_takes_it(
    make_folder: MakeFolder, of_folder: Callable[..., Config], tmp_path: Path
) -> None:
    config = of_folder(make_folder(size=(80, 80)), "data.fit=stretch")
    ran(config, tmp_path / "run")
    data = read_result(tmp_path / "run")["data"]
    best = checkpoint.load(tmp_path / "run" / "best.pt")
    assert (data["image_size"], data["fit"]) == (80, "stretch")
    assert best["input"] == vars(InputFormat(80, "stretch")) and best["settings"]["stem"] == "imagenet"
    classifier = load_classifier(tmp_path / "run" / "best.pt")
    assert isinstance(classifier.model, BottleneckResNet) and classifier.model.conv1.stride == (2, 2)
    assert len(classifier.predict(torch.zeros(2, 3, 80, 80, dtype=torch.uint8))) == 2
    with pytest.raises(InputError, match=r"allowed: a tensor uint8 \(B, 3, 80, 80\)"):
        classifier.logits(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("more", [(), ("transfer=finetune", *FROZEN[1:], "transfer.image_size=48")])
def test_images_that_stay_on_disk_give_the_same_run(
    more: tuple[str, ...],
    make_folder: MakeFolder,
    of_folder: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = make_folder(size=(50, 70), parts=("train", "test"))
    for name, share in (("memory", 1), ("disk", 1e-9)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            config = of_folder(root, "test=true", f"cache.memory_share={share}", f"cache.dir={tmp_path / name}", *more)
            ran(config, tmp_path / "runs" / name)
        assert ("every batch is read from" in caplog.text) == (share < 1)
    assert timeless(tmp_path / "runs" / "memory") == timeless(tmp_path / "runs" / "disk")
    results = [read_result(tmp_path / "runs" / name) for name in ("memory", "disk")]
    assert results[0]["test"] == results[1]["test"] and results[0]["data"] == results[1]["data"]


def test_images_stay_on_disk_where_either_memory_is_too_small(
    settings: Settings, make_folder: MakeFolder, of_folder: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory they are on the GPU too; how much is free there counts once, before any are."""
    share = "cache.memory_share=0.25"
    host = request(settings(share, "device=cpu"), "train").in_memory
    assert host == int(0.25 * total_memory())
    free = {"cuda:97": 4000, "cuda:98": 10**18}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 10**18))
    on_small, on_large = (settings(share, f"device={device}") for device in free)
    assert request(on_small, "train").in_memory == 1000 and request(on_large, "test").in_memory == host
    free["cuda:97"] = 0
    assert request(on_small, "train").in_memory == 1000
    assert request(of_folder(make_folder(), "device=cuda:98", *FROZEN), "train").in_memory == 0


def test_fine_texture_reaches_the_backbone(of_folder: Callable[..., Config], tmp_path: Path) -> None:
    """Stripes of one pixel across or along: at 32 pixels both are grey."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    for label, pixels in (("along", stripes.T), ("across", stripes)):
        place = tmp_path / "images" / "train" / label
        place.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(pixels).save(place / f"{number}.png")
    differences = []
    for more in ((), ("data.image_size=32",)):
        config = of_folder(tmp_path / "images", *FROZEN, "transfer.image_size=64", "data.split=random", *more)
        images = load_splits(config).train
        features = configured_backbone(config).features(images.images[:])
        means = [features[images.labels == label].mean(0) for label in (0, 1)]
        differences.append(float((means[0] - means[1]).abs().max()))
    assert differences[0] > 1 and differences[1] < 0.1


PEAK = """
import resource, sys
from pathlib import Path
import torch
from cifar.compose import composed
from cifar.experiment import load_splits
from cifar.resources import Resources
from cifar.tasks import build_task
torch.set_num_threads(1)
for root in sys.argv[1:3]:
    config = composed(f"data.root={root}", *sys.argv[3:])
    build_task(config, load_splits(config, Resources()), torch.device("cpu"), Resources())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_features_of_many_images_need_little_memory(make_folder: MakeFolder, root: Path, tmp_path: Path) -> None:
    """1000 images of 224 pixels are 150 MB; beyond what 96 of them need there are the blocks that are decoded."""
    few, many = (make_folder(name, size=(230, 224), each=4, suffix="jpg") for name in ("few", "many"))
    for folder, each in ((few, 48), (many, 500)):
        for file in folder.rglob("*.jpg"):
            for number in range(each // 4 - 1):
                file.with_name(f"{file.stem}-{number}.jpg").hardlink_to(file)
    backbone = "transfer.backbone._target_=cifar.models.resnet.BottleneckResNet"
    network = [f"+transfer.backbone.{setting}" for setting in ("depths=[1]", "width=4", "stem=imagenet")]
    options = ["transfer=frozen", backbone, *network, "transfer.weights=random", "transfer.image_size=224"]
    arguments = [str(few), str(many), "data=image_folder", f"cache.dir={tmp_path / 'cache'}", "device=cpu", *options]
    answer = subprocess.run([sys.executable, "-c", PEAK, *arguments], cwd=root, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    before, after = map(int, answer.stdout.split())
    assert after - before < 75


def test_what_earlier_versions_wrote_means_32_pixels() -> None:
    former = {"data": {"source": "image_folder", "root": "x"}, "model": {"_target_": "a.B"}}
    added = {"image_size": 32, "fit": "crop", "val_from": "training_part", "test_size": 0.15}
    assert upgrade_settings(former)["data"] == {"source": "image_folder", "root": "x", **added}
    assert former_overrides(former) == [*("data.image_size=32", "data.val_from=training_part", "data.split=random")]
    assert former_overrides({"data": {"source": "digits"}}) == []
    searched = {"source": "image_folder", "fit": "crop", "val_from": "auto"}
    assert former_overrides({"data": searched}) == ["data.split=random"], "in which data.image_size is searched"
    assert former_overrides(upgrade_settings(former)) == ["data.split=random"]
    assert former_overrides({}) == former_overrides({"data": searched | {"calibration_size": 0}}) == []


def test_another_size_is_another_content() -> None:
    former = {"source": "digits", "classes": 10, "images": 9, "fingerprint": "a", "files": None}
    now = former | {"fingerprint": "b", "image_size": 8, "fit": "crop"}
    before, after = (content_of({"data": data}) for data in (former, now))
    assert content_differences({"images": before["images"]}, {"images": after["images"]}) == [
        "the images are brought to another size: data.image_size was 32, now 8"
    ]

"""Unsure predictions and unlike images: the promise, the distance, what a run keeps, and what is done with it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from cifar import export, predict
from cifar.content import ContentError
from cifar.data import preprocessing
from cifar.data.calibration_part import with_calibration
from cifar.data.images import DataError
from cifar.errors import UserError
from cifar.experiment import load_splits, run
from cifar.inference.held_out import set_anew
from cifar.inference.marks import Marker, MarksError
from cifar.inference.model import ExportedModel, load_model
from cifar.options.check import check
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER
from cifar.results import read_result
from cifar.training import checkpoint
from cifar.unlike import Neighbours, head_of, with_features
from cifar.unsure import Outcomes, Reliability, Table, fewest_images, largest_distance, threshold

SETTINGS = ["data=arrays", "model.depths=[1,1]", "model.width=4", "device=cpu", "threads=1", "precision=fp32"]
SETTINGS += ["data.val_size=100", "data.calibration_size=200", "epochs=3", "batch_size=16", "augment=none"]
CLASSES = ("dark", "light")


def drawn_images(count: int, seed: int) -> tuple[Any, Any]:
    """uint8 (N, 8, 8), dark or light, of which nobody can tell more than about 93%; and labels (N,)."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    levels = random.normal(np.where(labels, 168, 88), 27)
    pixels = random.normal(levels[:, None, None], 20, (count, 8, 8))
    return pixels.clip(0, 255).astype(np.uint8), labels


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)

    def drawn(images: int) -> tuple[Any, Any]:
        probabilities = random.beta(4, 1, images)
        return probabilities, random.random(images) < probabilities**1.3  # a model that is too confident

    population, right = drawn(100_000)
    broken = 0
    for _ in range(100):
        result = threshold(*drawn(1000), 0.2)
        assert result is not None and 0.3 < result.coverage < 1
        broken += (~right[population >= result.probability]).mean() > 0.2
    assert broken <= 10, "5 of 100 are expected at most; 11 or more have a probability of 1%"


def test_what_cannot_be_had_has_no_threshold() -> None:
    assert fewest_images(0.05) == 59 and fewest_images(0.01) == 299
    sure, right = np.linspace(1, 0.5, 59, dtype=np.float32), np.ones(59, bool)
    everything = threshold(sure, right, 0.05)
    assert everything is not None and (everything.probability, everything.coverage) == (0.0, 1.0)
    assert threshold(sure[1:], right[1:], 0.05) is None, "too few images"
    assert threshold(sure, np.arange(59) > 5, 0.05) is None, "the surest are wrong"
    equal = threshold(np.repeat([0.9, 0.6], [150, 50]).astype(np.float32), np.repeat([True, False], [150, 50]), 0.05)
    assert equal is not None and equal.probability == pytest.approx(0.75), "equal probabilities are not divided"
    few = Outcomes("calibration", 58, sure[1:], right[1:])
    assert "cannot be promised by 58 calibration images: it takes 59 images at least" in few.in_words(0.05)
    assert "an estimate" in Outcomes("validation", 59, sure, right).in_words(0.05)
    for tiniest in (1e-17, 5e-324):
        assert "images at least" in few.in_words(tiniest)
    many = Outcomes("calibration", 5000, np.linspace(1, 0.5, 5000, dtype=np.float32), np.ones(5000, bool)).table
    assert many.at(0.002) is not None
    assert "the smallest that it was set for is 0.001" in many.in_words(0.0009)


def test_the_predict_of_a_bundle_says_what_its_marks_mean(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "preprocessing", preprocessing)  # beside it in a bundle
    from cifar.exporting import bundled_predict

    sure = np.linspace(1, 0.5, 200, dtype=np.float32)
    for part in ("calibration", "validation"):
        reliability = Reliability(Outcomes(part, 200, sure, np.ones(200, bool)), 0.25)
        assert bundled_predict.limits(reliability.metadata(), 0.05) == (0.0, 0.25)
        printed = capsys.readouterr().err
        assert ("an estimate" in printed) == (part == "validation")
        assert "unlike training: distance above 0.2500; 5% of images" in printed
    assert bundled_predict.limits(
        Reliability(Outcomes("validation", 9, sure[:9], np.ones(9, bool)), None).metadata(), 0.05
    ) == (0.0, math.inf)
    for text in ("5", "nan", "-1", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="allowed: a number above 0 and below 1"):
            bundled_predict.share(text)


def test_the_table_of_an_export_is_on_the_safe_side() -> None:
    random = np.random.default_rng(1)
    probabilities = random.random(2000).astype(np.float32)
    outcomes = Outcomes("calibration", 2000, probabilities, random.random(2000) < probabilities)
    table = Table.from_json(json.loads(json.dumps(outcomes.table.as_json())))
    exact, rounded = outcomes.at(0.2), table.at(0.2049)
    assert exact is not None and rounded is not None and rounded.max_error == 0.2
    assert rounded.probability == exact.probability and table.at(0.004) is None


@pytest.mark.parametrize("shape", [(300, 40), (300, 200), (100, 200)])
def test_distances_are_those_to_the_tenth_nearest(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(30, shape[1], generator=generator)
    train, new = (torch.rand(count, 30, generator=generator) @ basis for count in (shape[0], 20))
    unit, unit_train = (torch.nn.functional.normalize(rows, dim=1) for rows in (new, train))
    expected = 1 - (unit @ unit_train.T).topk(10, dim=1).values[:, -1]
    assert torch.allclose(Neighbours.of(train)(new), expected, atol=2e-3)
    assert Neighbours.of(train)(-new).min() > 1, "the opposite of what it was trained on"


class Odd(torch.nn.Module):
    """`use`: how its last layer is called."""

    def __init__(self, use: str) -> None:
        super().__init__()
        self.use, self.head = use, torch.nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.use == "by keyword":
            return self.head(input=images)
        if self.use == "for each part":
            return self.head(images.view(-1, 2, 3).repeat(1, 1, 2).view(-1, 6)).view(-1, 2, 2).mean(1)
        return images[:, :2]


@pytest.mark.parametrize(("use", "width"), [("by keyword", 6), ("for each part", 2), ("never", 2)])
def test_features_of_a_head_that_is_called_otherwise(use: str, width: int) -> None:
    network, images = Odd(use), torch.rand(3, 6)
    logits, features = with_features(network, head_of(network, 2), images)
    assert torch.equal(logits, network(images))
    assert torch.equal(features, images if width == 6 else logits)


def test_what_is_not_known_of_the_best_weights_loses_nothing_else(
    compose: Any, tiny: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(model: object, head: object, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(len(inputs), 10), torch.full((len(inputs), 4), torch.inf)

    with monkeypatch.context() as patched:
        patched.setattr("cifar.reliability.with_features", infinite)
        run(check(compose(*tiny, "test=true")), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    assert result["status"] == "finished" and "test" in result and "unsure" not in result
    assert "not known, as what the last layer receives for training images is not finite" in caplog.text
    (tmp_path / "best.pt").unlink()
    run(check(compose(*tiny, "test=true", f"resume={tmp_path}")), str(tmp_path), NO_REPORTER)
    result = read_result(tmp_path)
    assert result["status"] == "finished" and "test" not in result
    assert caplog.text.count("no such checkpoint; nothing is measured of the best weights") == 1


def test_the_largest_distance_has_its_share_of_false_alarms() -> None:
    distances = np.random.default_rng(0).random(1999)
    assert largest_distance(distances) == pytest.approx(0.95, abs=0.02)
    assert largest_distance(distances[:18]) is None and largest_distance(distances[:19]) == distances[:19].max()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    file = tmp_path_factory.mktemp("data") / "levels.npz"
    images, labels = drawn_images(600, 0)
    np.savez(file, train_images=images, train_labels=labels, classes=np.array(CLASSES))
    return [*SETTINGS, f"data.root={file}"]


@pytest.fixture(scope="module")
def trained(compose: Any, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unsure")
    config = check(compose(*settings))
    record = OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))
    run(config, str(folder), NO_REPORTER, settings={"config.yaml": record})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/CLASS/N.png, 100 new images."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (image, label) in enumerate(zip(*drawn_images(100, 1), strict=True)):
        place = folder / CLASSES[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    return folder


def test_calibration_images_are_apart(trained: Path, settings: list[str], compose: Any) -> None:
    splits = load_splits(check(compose(*settings)))
    assert splits.calibration is not None
    parts = [splits.train, splits.val, splits.calibration]
    assert [len(part) for part in parts] == [300, 100, 200]
    names = [set(part.names) for part in parts]
    assert len(set.union(*names)) == 600 and torch.bincount(splits.calibration.labels).tolist() == [100, 100]
    facts = read_result(trained)
    assert facts["data"]["calibration"]["images"] == 200 and facts["unsure"]["part"] == "calibration"
    without = load_splits(check(compose(*settings, "data.calibration_size=0")))
    assert without.calibration is None and without.val.fingerprint == splits.val.fingerprint
    with pytest.raises(DataError, match=r"data\.calibration_size: cannot take 499 of the 500 images"):
        with_calibration(without, 499, 0)


def test_settings_that_make_no_sense_are_refused(
    trained: Path, settings: list[str], compose: Any, tmp_path: Path
) -> None:
    for keys, message in (
        (["data.folds=5", "data.fold=0"], "with folds, each image is validated on once"),
        (["data.calibration_size=20.5"], "a fraction below 1, or a whole number"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(compose(*settings, *keys))
    changed = check(compose(*settings, "data.calibration_size=150", f"resume={trained}"))
    with pytest.raises(ContentError, match=r"data\.calibration_size was 200"):
        run(changed, str(tmp_path), NO_REPORTER)


def test_predict_marks_and_sorts(trained: Path, photos: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "p.csv"
    arguments = [str(trained), str(photos), "--device", "cpu", "--csv", str(file)]
    predict.main([*arguments, "--max-error", "0.05", "--sort", "unsure"])
    rows = pd.read_csv(file)
    assert list(rows)[-3:] == ["unsure", "unlike", "distance"] and rows.probability.is_monotonic_increasing
    limit = load_model(trained, "cpu").reliability
    assert limit is not None and limit.largest is not None
    at = limit.thresholds.at(0.05)
    assert at is not None and (rows.unsure == (rows.probability < at.probability)).all()
    assert (rows.unlike == (rows.distance > limit.largest)).all() and 0 < rows.unsure.sum() < 100
    assert "at most 0.05 of the others are wrong, with 95% confidence" in capsys.readouterr().err
    predict.main([*arguments[:-2], "--max-error", "0.05", "--tta", "flip", "--json", str(tmp_path / "p.json")])
    document = json.loads((tmp_path / "p.json").read_text())
    promise, flipped = document["reliability"]["unsure"], document["predictions"]
    facts = (promise["max_error"], promise["part"], promise["images"], promise["estimate"])
    assert facts == (0.05, "calibration", 200, False)
    assert 0 < promise["coverage"] < 1 and document["reliability"]["unlike"]["distance"] == limit.largest
    assert {each["distance"] for each in flipped} == set(rows.distance), "of the images as they are"
    assert f"probability below {at.probability:.4f}" not in capsys.readouterr().err, "set anew"
    predict.main([str(trained), str(photos), "--device", "cpu", "--evaluate", "--max-error", "0.05"])
    assert f"unsure: {rows.unsure.sum()} of 100 images; accuracy of the others" in capsys.readouterr().out


def test_an_export_measures_the_same(
    trained: Path, photos: Path, settings: list[str], tmp_path: Path, compose: Any
) -> None:
    out = tmp_path / "model.onnx"
    export.main([str(trained), "--format", "onnx", "--out", str(out)])
    model, exported = load_model(trained, "cpu"), load_model(out)
    assert isinstance(exported, ExportedModel)
    images = model.read(sorted(photos.rglob("*.png")))
    expected, assessment = model.assess(images), exported.assess(images)
    assert torch.allclose(assessment.distances, expected.distances, atol=1e-5)
    marks = [list(Marker.of(each, max_error=0.05).marks(expected)) for each in (model, exported)]
    assert marks[0] == marks[1]
    anew = set_anew(load_splits(check(compose(*settings))), exported.assess)
    known = model.reliability
    assert known is not None and anew.largest == pytest.approx(known.largest, abs=1e-5)
    assert anew.metadata().keys() == {"unsure", "unlike"}
    assert "; the run that it was exported from can set its threshold" in Marker.of(exported, "flip").lines[0]
    with pytest.raises(MarksError, match=r"thresholds in .* are for images as they are"):
        Marker.of(exported, "flip", 0.05)


def test_a_model_of_an_earlier_version_says_so(trained: Path, photos: Path, tmp_path: Path, capsys: Any) -> None:
    best = checkpoint.load(trained / "best.pt")
    del best["reliability"]
    checkpoint.save(tmp_path / "best.pt", best)
    images = str(next(photos.rglob("*.png")))
    predict.main([str(tmp_path), images, "--device", "cpu"])
    assert "unsure, unlike training: not known, as its run has not ended" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--max-error 0\.1: .*best\.pt does not say when it is right"):
        predict.main([str(tmp_path), images, "--device", "cpu", "--max-error", "0.1"])
    export.main([str(tmp_path), "--format", "onnx", "--out", str(tmp_path / "model.onnx")])
    assert load_model(tmp_path / "model.onnx").reliability is None

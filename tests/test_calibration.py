"""The temperature of a run, and how well its probabilities are calibrated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from reporters import throw

from cifar.calibration import (
    HIGHEST,
    LOWEST,
    calibrate,
    expected_calibration_error,
    fit_temperature,
)
from cifar.experiment import load_splits, run
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER, Pruned
from cifar.results import read_result
from cifar.trained import load_classifier
from cifar.training import checkpoint

Settings = Callable[..., Config]


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_logits_that_are_too_large_have_that_temperature(factor: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > random.random((len(logits), 1))).argmax(1)
    measured = calibrate(factor * logits, labels)
    assert measured.temperature == pytest.approx(factor, rel=0.03) and measured.images == 20_000
    assert measured.ece_after < 0.015
    assert factor == 1 or measured.ece_before > 0.1
    assert fit_temperature(factor * logits, labels) == measured.temperature


def test_the_calibration_error_is_that_of_the_paper() -> None:
    right = np.array([True, False, True, True])
    assert expected_calibration_error(np.array([0.9, 0.9, 0.6, 1.0]), right) == pytest.approx((2 * 0.4 + 0.4 + 0) / 4)


FIVE = np.eye(3)[[0, 1, 2, 0, 1]]


@pytest.mark.parametrize(
    ("logits", "labels", "low", "high"),
    [
        pytest.param((5 * FIVE).tolist(), [0, 1, 2, 0, 1], 1.0, 3.0, id="5 images, all right"),
        pytest.param((5 * FIVE).tolist(), [1, 2, 0, 1, 2], HIGHEST - 0.1, HIGHEST, id="all wrong"),
        pytest.param(np.zeros((5, 3)).tolist(), [0, 0, 0, 0, 0], 1.0, 1.0, id="all the same"),
        pytest.param(np.zeros((5, 1)).tolist(), [0, 0, 0, 0, 0], 1.0, 1.0, id="one class"),
        pytest.param((1e8 * FIVE).tolist(), [0, 1, 2, 0, 1], LOWEST, HIGHEST, id="huge"),
        pytest.param(
            np.where(FIVE == 1, 5, -np.inf).tolist(), [0, 1, 2, 0, 1], LOWEST, HIGHEST, id="impossible classes"
        ),
        pytest.param(FIVE[:1].tolist(), [0], LOWEST, HIGHEST, id="one image"),
    ],
)
def test_few_images_and_extreme_logits_have_a_temperature(
    logits: list[list[float]], labels: list[int], low: float, high: float
) -> None:
    measured = calibrate(np.array(logits), np.array(labels))
    assert low <= measured.temperature <= high
    assert 0 <= measured.ece_before <= 1 and 0 <= measured.ece_after <= 1


def test_a_run_keeps_the_temperature_of_its_best_epoch(settings: Settings, tmp_path: Path) -> None:
    config = settings("ema.decay=0.5", "precision=fp32")
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    run(config, str(tmp_path / "whole"), NO_REPORTER)
    best = checkpoint.load(tmp_path / "whole" / "best.pt")
    assert read_result(tmp_path / "whole")["calibration"] == best["calibration"]
    classifier = load_classifier(tmp_path / "whole" / "best.pt")
    assert classifier.temperature == best["calibration"]["temperature"]
    del best["calibration"]
    checkpoint.save(tmp_path / "former.pt", best)
    former = load_classifier(tmp_path / "former.pt")
    assert former.temperature is None

    part = tmp_path / "part"
    with pytest.raises(Pruned):
        run(config, str(part), throw(Pruned()))
    assert "calibration" in read_result(part), "it is recorded with its epoch"
    run(settings("ema.decay=0.5", "precision=fp32", f"resume={part}"), str(part), NO_REPORTER)
    assert read_result(part)["calibration"] == read_result(tmp_path / "whole")["calibration"]


def test_it_is_fitted_on_the_weights_that_are_measured(settings: Settings, tmp_path: Path) -> None:
    config = settings("ema.decay=0.5", "precision=fp32")
    run(config, str(tmp_path), NO_REPORTER)
    classifier = load_classifier(tmp_path / "best.pt")
    val = load_splits(config).val
    assert torch.is_tensor(val.images)
    logits = classifier.logits(val.images).numpy()
    assert fit_temperature(logits, val.labels.numpy()) == pytest.approx(classifier.temperature, rel=1e-3)

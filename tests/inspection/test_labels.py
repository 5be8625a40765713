"""Suspicious labels: a planted share of wrong ones is stated and listed, right ones are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_digits

from cifar.experiment import load_splits
from cifar.inspection.labels import (
    CUT,
    Indices,
    Probabilities,
    fit_noise,
    out_of_fold_probabilities,
    softmax,
    suspicious,
    wrong_labels,
)
from cifar.inspection.out_of_fold import judged
from cifar.options.config import Config

CLASSES = 10


def classified(images: int, seed: int) -> tuple[Probabilities, Indices]:
    """Calibrated probabilities and the classes that are drawn from them: a classifier right for 3 of 4 images."""
    generator = np.random.default_rng(seed)
    probabilities = softmax(generator.normal(0, 2.5, (images, CLASSES)))
    drawn = (probabilities.cumsum(1) < generator.random((images, 1))).sum(1)
    return probabilities, drawn.clip(max=CLASSES - 1)


def spoiled(labels: Indices, count: int) -> tuple[Indices, Indices]:
    """Labels of which the first `count` in random order are others, and which these are."""
    generator = np.random.default_rng(1)
    positions = generator.permutation(len(labels))[:count]
    wrong = labels.copy()
    wrong[positions] = (labels[positions] + generator.integers(1, CLASSES, count)) % CLASSES
    return wrong, positions


@pytest.mark.parametrize("wrong", [300, 1200])
def test_the_share_of_wrong_labels_is_told_from_the_classifiers_mistakes(wrong: int) -> None:
    probabilities, truth = classified(6000, 0)
    assert np.mean(probabilities.argmax(1) != truth) > 0.2
    labels, positions = spoiled(truth, wrong)
    stated = wrong_labels(probabilities, labels)
    assert 0.75 * wrong < stated.least < 1.25 * wrong and stated.least <= stated.expected < 2 * wrong
    suspicions = suspicious(probabilities, labels)
    right = np.isin([each.index for each in suspicions], positions)
    assert right[:100].mean() > 0.8 and right.mean() > 0.4 and right.sum() > 0.3 * wrong
    scores = [each.score for each in suspicions]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= CUT and scores[0] <= 1
    assert all(each.label == labels[each.index] != each.suggested for each in suspicions)


def test_a_weak_classifier_alone_makes_no_label_suspicious() -> None:
    probabilities, labels = classified(6000, 0)
    assert fit_noise(probabilities, labels).rate < 0.01
    assert len(suspicious(probabilities, labels)) < 10
    sharper = softmax(2 * np.log(probabilities))
    assert fit_noise(sharper, labels).sharpness == pytest.approx(0.5, rel=0.1)


def test_wrong_digits_are_listed_first_with_their_class() -> None:
    features, truth = load_digits(return_X_y=True)
    labels, positions = spoiled(truth, 60)
    suspicions = suspicious(out_of_fold_probabilities(features, labels, CLASSES), labels)
    indices = np.array([each.index for each in suspicions])
    assert np.isin(indices[:40], positions).mean() > 0.9
    assert np.isin(positions, indices).mean() > 0.8
    assert all(each.suggested == truth[each.index] for each in suspicions[:20])


def test_images_of_a_group_do_not_judge_each_other() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 2)
    features = np.repeat(np.eye(30), 2, axis=0) * 9  # each image is like the other one of its group, and like no other
    labels = np.repeat(generator.permutation(np.arange(30) % 3), 2)
    together = out_of_fold_probabilities(features, labels, 3, groups=groups)
    apart = out_of_fold_probabilities(features, labels, 3)
    rows = np.arange(60)
    assert together[rows, labels].mean() < 0.34 < apart[rows, labels].mean()
    assert together.sum(1) == pytest.approx(1)


def test_a_class_of_one_image_is_not_judged() -> None:
    features, labels = load_digits(n_class=2, return_X_y=True)
    labels[0] = 2
    probabilities = out_of_fold_probabilities(features, labels, 3)
    assert probabilities[0].tolist() == [0, 0, 1]
    assert suspicious(probabilities, labels) == []


def test_a_recipe_judges_all_images_that_it_would_train_and_validate_on(settings: Callable[..., Config]) -> None:
    config = settings("optimizer=adam", "optimizer.lr=0.01", "data.limit=60")
    splits = load_splits(config)
    result = judged(config, splits)
    assert result.labels.tolist() == [*splits.train.labels.tolist(), *splits.val.labels.tolist()]
    assert result.probabilities.shape == (60, len(splits.train.classes))
    assert result.probabilities.sum(1) == pytest.approx(1)
    repeated = judged(config, splits)
    assert (repeated.probabilities == result.probabilities).all()

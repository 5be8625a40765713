"""Suspicious labels, by what a classifier says of images that it was not trained on. Imports no torch.

Plain confident learning (Northcutt et al., 2021, arXiv:1911.00068) takes a sure enough other class for a wrong label,
and so flags many images that a weak classifier gets wrong: of 10,000 right labels of CIFAR-10, 538. Here the shares of
both are fitted: a classifier's mistakes become rare as its margin grows, as the softmax says, while wrong labels remain
at any margin (in psychometrics: the lapse rate, Wichmann and Hill, 2001). That gives the share of wrong labels where
images are clear. How much more often people err where they are not cannot be seen in probabilities, as the classifier
errs there too: it is taken from CIFAR-10, whose images were labelled anew (python -m benchmarks labels).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Probabilities = NDArray[np.float64]
Indices = NDArray[np.int64]
CUT = 0.3
"""The least score of a suspicious label: two of three are wrong on both samples of the benchmark.

That is with a classifier that is right for 77% of the images. Of one that is right for 65% it is 57%, for 50% 30%.
"""
GROWTH = 0.5
"""What remains of the logarithm of the share of wrong labels as an image becomes unclear: from 1 down to 1 - GROWTH."""
CONFUSED = 0.3
"""From this share of wrong labels that are likely classes, people erred by confusion; below, in part at random."""
STRENGTH = 1.28
"""Of the logistic regression: scikit-learn's C, times the features. Of 1,280 features of 10,000 images, C=0.001 had the
best likelihood out of fold, with 0.0003, 0.003 and 0.01."""
MOST_STEPS = 300
"""Of the logistic regression's optimizer."""
PRIOR_RIGHT = 50
"""So many right labels are as if seen beforehand: with a few hundred images, some mistakes of a weak classifier look
like wrong labels. Of 500 images of CIFAR-10 with right labels 0 to 4 are flagged, without this 23 to 45."""
LEAST = 1e-300
"""Added to a likelihood, so that its logarithm is finite."""


@dataclass(frozen=True)
class Suspicion:
    """An image whose label may be wrong: its position, its label, and the class that fits better, as class indices.

    `score` in [0, 1]: the larger, the surer.
    """

    index: int
    label: int
    suggested: int
    score: float


@dataclass(frozen=True)
class LabelNoise:
    """How labels differ from what a classifier expects, as fitted to its out-of-fold probabilities.

    rate: the share of labels that are wrong, of images that are clear to it · sharpness: the inverse temperature of the
    probabilities, for right labels · uniform: the share of wrong labels that are any other class, equally likely; the
    others are classes that the classifier takes for likely too.
    """

    rate: float
    sharpness: float
    uniform: float

    def rates(self, probabilities: Probabilities) -> Probabilities:
        """The share of labels (N,) that are wrong of images like each: larger where an image is unclear."""
        doubt = 1 - softmax(self.sharpness * _logarithms(probabilities)).max(1)
        growth = GROWTH * min(1.0, (1 - self.uniform) / CONFUSED)
        return np.asarray(self.rate ** (1 - growth * np.cbrt(doubt)))

    def scores(self, probabilities: Probabilities, labels: Indices) -> Probabilities:
        """How sure it is (N,), in [0, 1], that a label is wrong; 0 where the classifier expects it."""
        right, wrong = _likelihoods(_logarithms(probabilities), labels, self.sharpness, self.uniform)
        rates = self.rates(probabilities)
        joint = rates * wrong
        return np.asarray(joint / (joint + (1 - rates) * right + LEAST))


@dataclass(frozen=True)
class WrongLabels:
    """How many labels are wrong.

    least: those that a classifier's own mistakes cannot explain · expected: if people err more on unclear images, as
    they did on CIFAR-10; where labels are wrong at random, or not at all, `least` is nearer.
    """

    least: float
    expected: float


def fit_noise(probabilities: Probabilities, labels: Indices) -> LabelNoise:
    """Of out-of-fold probabilities (N, C) and labels (N,), by maximum likelihood, with what is likely beforehand."""
    from scipy.optimize import minimize
    from scipy.special import expit

    logarithms = _logarithms(probabilities)

    def cost(values: Probabilities) -> float:
        rate, uniform = expit(values[1:])
        right, wrong = _likelihoods(logarithms, labels, np.exp(values[0]), uniform)
        likelihood = np.log((1 - rate) * right + rate * wrong + LEAST).sum()
        prior = PRIOR_RIGHT * np.log(1 - rate) + np.log(uniform * (1 - uniform))
        return float(-(likelihood + prior) / len(labels))

    bounds = [(-3.0, 3.0), (-12.0, 2.0), (-6.0, 6.0)]
    starts = [np.array([0.5, start, 0.0]) for start in (-5.0, -2.0)]
    best = min((minimize(cost, start, bounds=bounds) for start in starts), key=lambda result: float(result.fun))
    rate, uniform = expit(best.x[1:])
    return LabelNoise(float(rate), float(np.exp(best.x[0])), float(uniform))


def suspicious(probabilities: Probabilities, labels: Indices, cut: float = CUT) -> list[Suspicion]:
    """The images whose label may be wrong, surest first, by out-of-fold probabilities (N, C) and labels (N,)."""
    scores = fit_noise(probabilities, labels).scores(probabilities, labels)
    suggested = probabilities.argmax(1)
    order = np.argsort(-scores, kind="stable")
    flagged = order[scores[order] >= cut]
    return [Suspicion(int(i), int(labels[i]), int(suggested[i]), float(scores[i])) for i in flagged]


def wrong_labels(probabilities: Probabilities, labels: Indices) -> WrongLabels:
    """About how many of the labels (N,) are wrong, by out-of-fold probabilities (N, C)."""
    noise = fit_noise(probabilities, labels)
    return WrongLabels(noise.rate * len(labels), float(noise.rates(probabilities).sum()))


def out_of_fold_probabilities(
    features: Floats,
    labels: Indices,
    classes: int,
    folds: int = 5,
    seed: int = 0,
    groups: Indices | None = None,
) -> Probabilities:
    """The probability of each class (N, classes), by a classifier that saw neither the image nor its group.

    Logistic regression on standardised features (N, D); groups (N,) are kept in one fold. An image whose class is in no
    other fold cannot be judged: its label has the probability 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probabilities = np.zeros((len(labels), classes))
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = max(2, min(folds, int(np.bincount(labels).max()), len(labels if groups is None else np.unique(groups))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = list(splitter(folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    for rest, part in parts:
        if not len(part):  # scikit-learn may leave a fold of groups empty
            continue
        if len(np.unique(labels[rest])) < 2:  # nothing to tell apart
            probabilities[part] = np.eye(classes)[labels[part]]
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH / features.shape[1], max_iter=MOST_STEPS))
        model.fit(features[rest], labels[rest])
        probabilities[np.ix_(part, model.classes_)] = model.predict_proba(features[part])
        unknown = part[~np.isin(labels[part], model.classes_)]
        probabilities[unknown] = np.eye(classes)[labels[unknown]]
    return probabilities


def softmax(logits: Floats) -> Probabilities:
    """The probabilities (N, C) of logits (N, C)."""
    from scipy.special import softmax

    return np.asarray(softmax(np.asarray(logits, np.float64), axis=1))


def _logarithms(probabilities: Probabilities) -> Probabilities:
    return np.log(np.asarray(probabilities, np.float64) + LEAST)


def _likelihoods(
    logarithms: Probabilities, labels: Indices, sharpness: float, uniform: float
) -> tuple[Probabilities, Probabilities]:
    """The probability of each label (N,) where it is right, and where it is wrong.

    A label that the classifier expects is taken for right.
    """
    rows = np.arange(len(labels))
    expected = softmax(sharpness * logarithms)
    top = logarithms.argmax(1)
    right = expected[rows, labels]
    others = uniform / (logarithms.shape[1] - 1) + (1 - uniform) * right / (1 - expected[rows, top] + LEAST)
    return right, np.where(top == labels, 0.0, others)

"""What a run's own model says of the run's images, each by weights that were trained without it.

Of the images that a run trains and validates on, in this order: `splits.train`, then `splits.val`. With a frozen
backbone its cached features are classified; else the run's recipe is trained once for each fold.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from cifar.building import set_up, trainer_of
from cifar.calibration import fit_temperature
from cifar.data.groups import numbers_of
from cifar.data.images import Images
from cifar.data.random_split import split_fold
from cifar.data.split import Splits
from cifar.inputs import configured_backbone
from cifar.inspection.labels import Indices, Probabilities, out_of_fold_probabilities, softmax
from cifar.options.config import Config
from cifar.options.splits import TEST_PART
from cifar.options.transfer import Frozen
from cifar.resources import SHARED, Resources
from cifar.tasks import build_task
from cifar.training.device import dtype_of
from cifar.training.isolation import Isolation
from cifar.training.threads import pinned
from cifar.training.trainer import evaluate

log = logging.getLogger(__name__)
FOLDS = 4
"""How often the recipe is trained."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """The class probabilities (N, C) and labels (N,) of images: those of `splits.train`, then those of `splits.val`."""

    probabilities: Probabilities
    labels: Indices


def judged(config: Config, splits: Splits, resources: Resources = SHARED) -> Judged:
    """The images that a run of `config` would train and validate on; `splits` as load_splits(config) returns them.

    Test images (data.val_from=test_part) are left out. Raises DataError where a class has fewer images, or groups, than
    there are folds, and Diverged where the recipe does not train.
    """
    parts = [splits.train] if splits.val_from == TEST_PART else [splits.train, splits.val]
    labels = torch.cat([part.labels for part in parts]).numpy()
    if isinstance(config.transfer, Frozen):
        features = torch.cat([features_of(config, part, resources) for part in parts]).numpy()
        known = all(part.groups is not None or part.digests is not None for part in parts)
        numbers = torch.cat([_numbers(part) for part in parts]).numpy() if known else None
        classes = len(splits.train.classes)
        return Judged(out_of_fold_probabilities(features, labels, classes, groups=numbers), labels)
    return Judged(out_of_fold_of_recipe(config, splits, resources), labels)


def _numbers(images: Images) -> Tensor:
    """int64 (N,): the groups of images; where there are none, copies are one."""
    return numbers_of(images) if images.groups is None else images.groups


def features_of(config: Config, images: Images, resources: Resources = SHARED) -> Tensor:
    """The features (N, F) of a frozen backbone: from the cache, where a run has left them there."""
    assert isinstance(config.transfer, Frozen)
    device = set_up(config)
    backbone = configured_backbone(config, resources)
    dtype = dtype_of(config.precision, device)
    cache = resources.feature_cache(config.cache.dir, device, config.transfer.batch_size, dtype)
    return cache.get(backbone, images).features


def out_of_fold_of_recipe(
    config: Config, splits: Splits, resources: Resources = SHARED, folds: int = FOLDS
) -> Probabilities:
    """The class probabilities (N, C) of the recipe of `config`, trained once for each fold of `splits.train`.

    An image of a fold is judged by the model that was trained without this fold, an image of `splits.val`, unless these
    are test images, by all models on average. config.time, which is that of one run, is left out. Raises DataError and
    Diverged, and ConfigError where the warm-up is longer than config.epochs.
    """
    if config.time is not None:
        log.warning("labels: time=%s is left out: epochs=%d for each of several models", config.time, config.epochs)
        config = dataclasses.replace(config, time=None)
        config.scheduler.check(config)
    folds = max(2, min(folds, int(splits.train.labels.bincount().min())))
    of_train = np.empty((len(splits.train), len(splits.train.classes)))
    of_val = np.zeros((len(splits.val), len(splits.train.classes)))
    for fold in range(folds):
        rest, part = _fold(splits.train, folds, fold, config.data.val_seed)
        of_fold = dataclasses.replace(splits, train=splits.train.take(rest), val=splits.train.take(part))
        log.info("labels: training %d of %d, on %d of %d images", fold + 1, folds, len(rest), len(splits.train))
        of_train[part], of_others = _trained(config, of_fold, splits.val, resources)
        of_val += of_others / folds
    return of_train if splits.val_from == TEST_PART else np.concatenate([of_train, of_val])


def _fold(images: Images, folds: int, fold: int, seed: int) -> tuple[Indices, Indices]:
    """The positions of the images that are not in a fold, and of those that are."""
    numbered = dataclasses.replace(images, images=torch.arange(len(images)))
    rest, part = split_fold(numbered, folds, fold, seed)
    return np.asarray(rest.images), np.asarray(part.images)


def _trained(
    config: Config, splits: Splits, others: Images, resources: Resources
) -> tuple[Probabilities, Probabilities]:
    """The class probabilities of `splits.val` and of `others`, after the last epoch; made shares of right ones."""
    device = set_up(config)
    unless_compiling = nullcontext() if config.compile else pinned()
    with Isolation(device), unless_compiling:
        task = build_task(config, splits, device, resources)
        trainer = trainer_of(config, task, splits, sys.stderr.isatty())
        start = time.perf_counter()
        for metrics in trainer.epochs():
            log.info("epoch %d of %d: accuracy %.4f", metrics.epoch, config.epochs, metrics.val_accuracy)
        log.info("%.0f s", time.perf_counter() - start)
        of_val = torch.cat(trainer.val_logits).cpu().numpy()
        of_others = torch.cat(evaluate(trainer.score, task.evaluation(others))[1]).cpu().numpy()
    temperature = fit_temperature(of_val, splits.val.labels.numpy())
    return softmax(of_val / temperature), softmax(of_others / temperature)

"""The three tasks, one for each transfer.mode: what is trained on what, and how a trained model is loaded.

none      a network from random weights, on images
frozen    a linear layer, on the features that a pretrained backbone computes once
finetune  a pretrained backbone with a new linear layer, on images
"""

from __future__ import annotations

import copy
import dataclasses
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cifar.classifier import Classifier, InputError, OnFeatures, OnImages
from cifar.data.augment.pieces import Augmentation, build_augmentation
from cifar.data.augment.views import versions
from cifar.data.images import Images, evenly
from cifar.data.loader import EpochLoader, FeatureLoader, ImageLoader
from cifar.data.split import Splits
from cifar.initial import tensors_by_class
from cifar.inputs import configured_backbone, initial_of
from cifar.models import depthwise
from cifar.models.build import build_model
from cifar.models.dry_run import DryRun, unchanged_generators
from cifar.models.feature_cache import FeatureCache
from cifar.models.finetune import Finetuned
from cifar.models.pretrained import Backbone
from cifar.models.weights import RANDOM, TransferError
from cifar.options import transfer as options
from cifar.options.config import Config
from cifar.options.option import groups
from cifar.resources import Resources
from cifar.saved import input_format, preprocess
from cifar.training.device import dtype_of
from cifar.training.optim import ParameterGroup, parameter_groups

__all__ = ["Classifier", "InputError", "Task", "build_task"]
EVALUATION_BATCH = {"cpu": 128, "cuda": 1000}
"""Images in a validation batch: on a CPU as many as suit its caches, on a GPU enough to fill it, also in turns."""
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Task(ABC):
    """What one run trains: a model, its training batches, the optimizer's parameter groups, and the steps' precision.

    `facts` is what result.json says of the task.
    """

    model: nn.Module
    train: EpochLoader
    groups: list[ParameterGroup]
    dtype: torch.dtype
    facts: dict[str, Any]
    resources: Resources

    @classmethod
    @abstractmethod
    def build(cls, config: Config, splits: Splits, device: torch.device, resources: Resources) -> Task:
        """The task of a run. Weights are drawn from PyTorch's global generator."""

    @abstractmethod
    def evaluation(self, images: Images) -> EpochLoader:
        """Batches to evaluate the model on `images`."""

    @abstractmethod
    def sample(self, count: int) -> EpochLoader:
        """Batches of at most `count` training images, at even distances, to evaluate the model on."""

    @abstractmethod
    def first_images(self, count: int) -> Tensor:
        """uint8 (B, 3, H, W): up to `count` images of the first batch as the network sees them, but not normalised."""

    def check(self, classes: int) -> None:
        """Raises ConfigError where the model does not take the batches, or does not give a logit for each class."""
        setting = "transfer.backbone" if "transfer" in self.facts else "model"
        DryRun(self.model, setting, self.train.shape, classes, self.train.total, self.train.batch_size).check()

    def tensors_by_class(self, config: Config, splits: Splits) -> list[str]:
        """The tensors of the model that have a row for each class: those of the linear layer at its end."""
        return [name for name in self.model.state_dict() if name in ("weight", "bias", "head.weight", "head.bias")]

    @staticmethod
    @abstractmethod
    def load(best: dict[str, Any], resources: Resources) -> Classifier:
        """The classifier that the content of a best.pt describes, with the weights of its `model` still to be loaded.

        Raises KeyError where `best` lacks something, ConfigError or TransferError where a model cannot be built.
        """

    @classmethod
    def skeleton(cls, best: dict[str, Any], resources: Resources) -> Classifier:
        """The same, with all weights of its `network` still to be loaded: no other file is read."""
        return cls.load(best, resources)


@dataclass(frozen=True)
class ImageTask(Task):
    """Trains on images, normalised and augmented."""

    splits: Splits

    def evaluation(self, images: Images) -> EpochLoader:
        device = self.train.labels.device
        batch_size = EVALUATION_BATCH[device.type]
        mean, std = self.splits.mean, self.splits.std
        return ImageLoader(images.images, images.labels, batch_size, device, mean, std, pad=self.resources.padded)

    def sample(self, count: int) -> EpochLoader:
        device, images = self.train.labels.device, self.splits.train.sample(count)
        batch_size = EVALUATION_BATCH[device.type]
        return ImageLoader(images.images, images.labels, batch_size, device, self.splits.mean, self.splits.std)

    def first_images(self, count: int) -> Tensor:
        assert isinstance(self.train, ImageLoader)
        images, _ = next(self.train.epoch(1))
        return self.train.pixels(images[:count])


class Scratch(ImageTask):
    """transfer.mode=none: the network that `model` describes, from random weights."""

    @classmethod
    def build(cls, config: Config, splits: Splits, device: torch.device, resources: Resources) -> Task:
        network = config.model.at(splits.train.images.shape[-1])
        model = build_model(dataclasses.asdict(network), len(splits.train.classes))
        dtype = dtype_of(config.precision, device)
        model = _to_device(model, config, device, dtype)
        train = _training_images(config, splits, device, resources)
        return cls(model, train, _groups(config, model), dtype, {}, resources, splits)

    def tensors_by_class(self, config: Config, splits: Splits) -> list[str]:
        network = dataclasses.asdict(config.model.at(splits.train.images.shape[-1]))
        with unchanged_generators():
            return tensors_by_class(self.model, len(splits.train.classes), partial(build_model, network))

    @staticmethod
    def load(best: dict[str, Any], resources: Resources) -> Classifier:
        classes = tuple(best["classes"])
        model = build_model(best["settings"], len(classes))
        return Classifier(classes, model, OnImages(model, best["mean"], best["std"]), input_format(best))


class Finetune(ImageTask):
    """transfer.mode=finetune: a pretrained backbone and a new linear layer, trained as one network."""

    @classmethod
    def build(cls, config: Config, splits: Splits, device: torch.device, resources: Resources) -> Task:
        settings = config.transfer
        assert isinstance(settings, options.Finetune)
        backbone = configured_backbone(config, resources)
        has_statistics = settings.weights != RANDOM or config.from_run is not None
        model = Finetuned(
            _private_copy(backbone),
            len(splits.train.classes),
            frozen_stages=settings.frozen_stages,
            frozen_statistics=settings.frozen_statistics and has_statistics,
        )
        dtype = dtype_of(config.precision, device)
        model = _to_device(model, config, device, dtype)
        # The head comes first: the learning rate of the first group is the one that metrics.csv shows.
        groups = _groups(config, model.head)
        slower = {"lr": config.optimizer.lr * settings.backbone_lr_scale}
        groups += [group | slower for group in _groups(config, model.backbone)]
        train = _training_images(config, splits, device, resources)
        return cls(model, train, groups, dtype, {"transfer": backbone.reference()}, resources, splits)

    @staticmethod
    def load(best: dict[str, Any], resources: Resources) -> Classifier:
        classes = tuple(best["classes"])
        backbone = _saved_backbone(best, RANDOM, resources)  # best.pt holds all weights of the network
        model = Finetuned(_private_copy(backbone), len(classes))
        return Classifier(classes, model, OnImages(model, best["mean"], best["std"]), input_format(best))


@dataclass(frozen=True)
class Frozen(Task):
    """transfer.mode=frozen: a linear layer on the features of a pretrained backbone."""

    backbone: Backbone
    cache: FeatureCache
    splits: Splits
    augmentation: Augmentation

    @classmethod
    def build(cls, config: Config, splits: Splits, device: torch.device, resources: Resources) -> Task:
        settings = config.transfer
        assert isinstance(settings, options.Frozen)
        backbone = configured_backbone(config, resources)
        dtype = dtype_of(config.precision, device)
        cache = resources.feature_cache(config.cache.dir, device, settings.batch_size, dtype)
        augmentation = _augmentation(config, splits.train)
        images = versions(splits.train, augmentation, splits.mean, settings.views)
        views = [cache.get(backbone, version) for version in images]
        rows = resources.stacked(views, device)
        val = cache.get(backbone, splits.val)
        model = nn.Linear(backbone.width, len(splits.train.classes)).to(device)
        train = FeatureLoader(rows, splits.train.labels, config.batch_size, device, config.seed)
        facts = backbone.reference() | {
            "cache_keys": {"train": [view.key for view in views], "val": val.key},
            "extraction_seconds": sum(features.seconds for features in (*views, val)),
            "images_extracted": backbone.images_seen,
        }
        groups = _groups(config, model)
        return cls(
            model, train, groups, torch.float32, {"transfer": facts}, resources, backbone, cache, splits, augmentation
        )

    def evaluation(self, images: Images) -> EpochLoader:
        device = self.train.labels.device
        features = self.resources.stacked([self.cache.get(self.backbone, images)], device)
        return FeatureLoader(features, images.labels, EVALUATION_BATCH[device.type], device)

    def sample(self, count: int) -> EpochLoader:
        """Of the first view of each image."""
        assert isinstance(self.train, FeatureLoader)
        chosen = torch.from_numpy(evenly(self.train.total, count)).to(self.train.labels.device)
        features, labels = self.train.features[:1, chosen], self.train.labels[chosen]
        return FeatureLoader(features, labels, EVALUATION_BATCH[labels.device.type], labels.device)

    def first_images(self, count: int) -> Tensor:
        assert isinstance(self.train, FeatureLoader)
        count = min(count, self.train.batch_size)
        order, views = (drawn[:count].tolist() for drawn in self.train.draw(1))
        versions_of = list(versions(self.splits.train, self.augmentation, self.splits.mean, len(self.train.features)))
        images = [versions_of[view].images[index : index + 1] for index, view in zip(order, views, strict=True)]
        return self.backbone.preprocess.resize_and_crop(torch.cat(images))

    @staticmethod
    def load(best: dict[str, Any], resources: Resources) -> Classifier:
        saved = best["transfer"]
        backbone = _saved_backbone(best, saved["weights"], resources)
        if backbone.sha256 != saved["weights_sha256"]:
            raise TransferError(
                f"{saved['weights']}: holds other weights than those that the linear layer was trained on; put the"
                " former file there"
            )
        return Frozen._classifier(best, backbone)

    @classmethod
    def skeleton(cls, best: dict[str, Any], resources: Resources) -> Classifier:
        return cls._classifier(best, _saved_backbone(best, RANDOM, resources))

    @staticmethod
    def _classifier(best: dict[str, Any], backbone: Backbone) -> Classifier:
        classes = tuple(best["classes"])
        head = nn.Linear(backbone.width, len(classes))
        return Classifier(classes, head, OnFeatures(backbone.preprocess, backbone.model, head), input_format(best))


def task_class(mode: str) -> type[Task]:
    """The task that the option of `transfer` with this mode names. Raises KeyError for an unknown mode."""
    option = groups()["transfer"].options[mode]
    assert issubclass(option, options.Transfer)
    task: type[Task] = pkgutil.resolve_name(option.task)
    return task


def build_task(config: Config, splits: Splits, device: torch.device, resources: Resources) -> Task:
    """The task of config.transfer, with weights drawn from config.seed, or those of the run that it begins with."""
    torch.manual_seed(config.seed)
    task = task_class(config.transfer.mode).build(config, splits, device, resources)
    initial = initial_of(config, resources)
    if initial is not None:
        initial.load(task.model, splits.train.classes, partial(task.tensors_by_class, config, splits))
    return task


def _saved_backbone(best: dict[str, Any], weights: str, resources: Resources) -> Backbone:
    saved = best["transfer"]
    backbone = resources.backbone(saved["backbone"], weights, None, saved["head"], saved["image_size"])
    return dataclasses.replace(backbone, preprocess=preprocess(best))


def _training_images(config: Config, splits: Splits, device: torch.device, resources: Resources) -> ImageLoader:
    augmentation = _augmentation(config, splits.train)
    return ImageLoader(
        splits.train.images,
        splits.train.labels,
        config.batch_size,
        device,
        splits.mean,
        splits.std,
        crop=augmentation.crop,
        flip=augmentation.flip,
        seed=config.seed,
        pad=resources.padded,
        pieces=augmentation.pieces,
    )


def _augmentation(config: Config, images: Images) -> Augmentation:
    return build_augmentation(dataclasses.asdict(config.augment), config.augment.piece, images)


def _private_copy(backbone: Backbone) -> Backbone:
    """One whose model can be trained: that of `backbone` is shared by all runs of the process."""
    return dataclasses.replace(backbone, model=copy.deepcopy(backbone.model))


def _to_device(model: Module, config: Config, device: torch.device, dtype: torch.dtype) -> Module:
    """The model in the layout of the config, where it is trained with forward passes of this dtype."""
    if device.type == "cpu" and dtype == torch.bfloat16:
        depthwise.compute_in_fp32(model)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    on_device: Module = model.to(device).to(memory_format=layout)
    return on_device


def _groups(config: Config, model: nn.Module) -> list[ParameterGroup]:
    optimizer = config.optimizer
    return parameter_groups(model, optimizer.decay, optimizer.decay_norms_and_biases)

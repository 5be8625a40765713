"""Backbones: their preprocessing, their classifier, and the check on one image."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torchvision.models as tv
from backbones import backbone, some_images
from torch import nn

from cifar.models.preprocess import Preprocess, preprocess_of
from cifar.models.pretrained import find_classifier, load_backbone
from cifar.models.weights import TransferError


def test_the_preprocessing_is_that_of_the_weights() -> None:
    images = some_images(4).images
    weights = tv.ResNet50_Weights.IMAGENET1K_V2
    theirs = weights.transforms()
    ours = preprocess_of("torchvision.models.resnet50", "IMAGENET1K_V2", nn.Identity(), None)
    assert (ours.resize, ours.crop) == (232, 224)
    assert torch.equal(ours(images), theirs(images))
    half = preprocess_of("torchvision.models.resnet50", "IMAGENET1K_V2", nn.Identity(), 64)
    assert half(images).shape == (4, 3, 64, 64)


def test_preprocess_survives_a_checkpoint(tmp_path: Path) -> None:
    torch.save(asdict(Preprocess(32, 16)), tmp_path / "p.pt")
    assert Preprocess(**torch.load(tmp_path / "p.pt", weights_only=True)) == Preprocess(32, 16)


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
def test_a_classifier_that_is_not_there_or_ambiguous_is_refused(head: str | None, message: str) -> None:
    net = nn.ModuleDict({"bn": nn.BatchNorm1d(2), "fc": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(TransferError, match=message):
        find_classifier(net, head)


def test_images_too_small_for_the_backbone_are_refused() -> None:
    with pytest.raises(TransferError, match=r"transfer.image_size=16: .*alexnet fails on images of 16x16"):
        load_backbone(tv.alexnet, "torchvision.models.alexnet", {}, "random", image_size=16)


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert backbone().sha256 == backbone().sha256
    assert torch.equal(torch.rand(3), expected)

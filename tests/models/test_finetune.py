"""A backbone that is fine-tuned: the stages that can be frozen, and the statistics of batch norm."""

from __future__ import annotations

import pytest
import torch
from backbones import backbone, small

from cifar.models.finetune import Finetuned, stages
from cifar.models.weights import TransferError


def test_stages_are_layers_and_what_comes_before_them() -> None:
    net = small()
    assert stages(net, 0) == []
    assert [id(part) for part in stages(net, 1)] == [id(net.conv1), id(net.bn1), id(net.layer1)]
    with pytest.raises(TransferError, match=r"allowed: 0 to 2 .layer1, layer2"):
        stages(net, 3)


def test_statistics_of_batch_norm_stay_where_they_are_frozen_and_its_weights_are_trained() -> None:
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for frozen in (False, True):
        before = backbone()
        model = Finetuned(before, 4, 0, frozen_statistics=frozen).train()
        state = {key: value.clone() for key, value in model.state_dict().items()}
        model(images).square().sum().backward()
        changed = {key for key, value in model.state_dict().items() if not torch.equal(value, state[key])}
        assert bool(changed) is not frozen
        assert all("running" in key or "num_batches" in key for key in changed)
        assert all(parameter.grad is not None for parameter in model.parameters())
        assert all(part.training for part in (model, model.backbone, model.head))

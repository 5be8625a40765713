"""The stages of a backbone that can be frozen."""

from __future__ import annotations

import pytest
from backbones import small

from cifar.models.finetune import stages
from cifar.models.weights import TransferError


def test_stages_are_layers_and_what_comes_before_them() -> None:
    net = small()
    assert stages(net, 0) == []
    assert [id(part) for part in stages(net, 1)] == [id(net.conv1), id(net.bn1), id(net.layer1)]
    with pytest.raises(TransferError, match=r"allowed: 0 to 2 .layer1, layer2"):
        stages(net, 3)

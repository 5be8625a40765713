"""A pretrained backbone with a new head, trained as one network."""

from __future__ import annotations

from torch import Tensor, nn

from cifar.models.pretrained import Backbone
from cifar.models.weights import TransferError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


class Finetuned(nn.Module):
    """normalised images (B, 3, H, W) -> logits (B, classes): resized for the backbone, through it and a new head.

    The first `frozen_stages` stages, and what comes before them, keep their weights and their batch-norm statistics.
    With `frozen_statistics` the others keep their statistics too, and batch norm trains its scale and offset.
    """

    def __init__(
        self, backbone: Backbone, classes: int, frozen_stages: int = 0, frozen_statistics: bool = False
    ) -> None:
        super().__init__()
        self.resize_and_crop = backbone.preprocess.resize_and_crop
        self.backbone = backbone.model
        self.head = nn.Linear(backbone.width, classes)
        self.backbone.requires_grad_(True)
        frozen = stages(self.backbone, frozen_stages)
        for part in frozen:
            part.requires_grad_(False)
        norms = [part for part in self.backbone.modules() if isinstance(part, BATCH_NORMS)]
        self.evaluated = [*frozen, *(norms if frozen_statistics else [])]

    def train(self, mode: bool = True) -> Finetuned:
        super().train(mode)
        for part in self.evaluated:
            part.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(self.resize_and_crop(images)).flatten(1)
        logits: Tensor = self.head(features)
        return logits


def stages(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The parts of a backbone up to and including its `count`-th stage.

    Stages are its children named layer<n> (ResNets); elsewhere all its children with parameters. Raises TransferError.
    """
    children = [(name, part) for name, part in backbone.named_children() if any(True for _ in part.parameters())]
    names = [name for name, _ in children]
    stage_names = [name for name in names if name.startswith("layer")] or names
    if count > len(stage_names):
        raise TransferError(
            f"transfer.frozen_stages={count}: allowed: 0 to {len(stage_names)} ({', '.join(stage_names)})"
        )
    if count == 0:
        return []
    last = names.index(stage_names[count - 1])
    return [part for _, part in children[: last + 1]]

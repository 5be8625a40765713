"""What exports of every kind of model differ by from PyTorch, in fp32 on the CPU.

python -m benchmarks exports                  # all models, about 15 minutes on 2 cores
python -m benchmarks exports resnet14 timm    # those alone; the others keep their figures

Each is trained for 5 epochs on a few of scikit-learn's digits, exported, and compared on the validation images.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.models import resnet50

from benchmarks.common import RESULTS, save
from cifar import trust
from cifar.compose import composed
from cifar.errors import UserError
from cifar.experiment import run
from cifar.exporting.agreement import TOLERANCE, Reference
from cifar.exporting.files import export_file
from cifar.exporting.formats import FORMATS, Subject
from cifar.exporting.source import Source, read_source
from cifar.exporting.suffixes import SUFFIXES
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources

QUICK = (
    *("data=digits", "data.limit=300", "data.val_size=71", "epochs=5", "batch_size=16"),
    *("optimizer.lr=0.02", "device=cpu", "threads=1"),
)
WEIGHTS = "transfer.weights=WEIGHTS"
"""Stands for a file of random weights whose batch-norm statistics are those of images: features of a usual size."""
RESNET50 = ("transfer.backbone._target_=torchvision.models.resnet50", WEIGHTS)
LITE0 = ("transfer.backbone=efficientnet_lite0", WEIGHTS)
MODELS: dict[str, tuple[str, ...]] = {
    "resnet14": ("model=resnet14",),
    "resnet26": ("model=resnet26",),
    "resnet50": ("model=resnet50",),
    "torchvision resnet18": ("model=torchvision", "model.name=resnet18"),
    "torchvision mobilenet_v3_small": ("model=torchvision", "model.name=mobilenet_v3_small"),
    "timm resnet26t": ("model=timm", "model.model_name=resnet26t"),
    "own": ("model=own", "model.factory=benchmarks.exports:Own"),
    "ema": ("model=resnet14", "ema.decay=0.9"),
    "image_size 64": ("model=resnet14", "data.image_size=64"),
    "frozen ResNet-50": ("transfer=frozen", *RESNET50),
    "frozen EfficientNet-Lite0": ("transfer=frozen", *LITE0),
    "finetune ResNet-50": ("transfer=finetune", *RESNET50, "transfer.image_size=64"),
    "frozen, 32 pixels enlarged to 64": ("transfer=frozen", *RESNET50, "transfer.image_size=64"),
    "frozen, 96 pixels reduced to 64": ("transfer=frozen", *RESNET50, "transfer.image_size=64", "data.image_size=96"),
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks exports", description=__doc__)
    parser.add_argument("models", nargs="*", help=f"words in their names: {', '.join(MODELS)}")
    words = parser.parse_args(argv).models
    trust.grant(["benchmarks.exports"])
    chosen = {name: settings for name, settings in MODELS.items() if not words or any(word in name for word in words)}
    file = RESULTS / "exports.json"
    rows = json.loads(file.read_text())["models"] if words and file.exists() else {}
    for name, overrides in chosen.items():
        rows[name] = measured(overrides)
        print(name, rows[name], flush=True)
    largest = max(row[format] for row in rows.values() for format in FORMATS if isinstance(row[format], float))
    save(
        "exports",
        "python -m benchmarks exports",
        {
            "what": "largest difference of a probability from PyTorch in fp32, on validation images of digits",
            "figure": f"{largest:.1e} of {len(rows)} models; allowed {TOLERANCE:g}",
            "models": {name: rows[name] for name in MODELS if name in rows},
        },
    )


def measured(overrides: tuple[str, ...]) -> dict[str, Any]:
    """By format, the largest difference, or why the model cannot be exported."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        torch.manual_seed(0)
        if WEIGHTS in overrides:
            backbone = lite0 if LITE0[0] in overrides else resnet50
            overrides = (*overrides, f"transfer.weights={settled_weights(backbone(), place)}")
        config = composed(*QUICK, f"cache.dir={place / 'cache'}", *overrides)
        (place / "run").mkdir()
        record = OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))
        run(config, str(place / "run"), NO_REPORTER, resources=Resources(), settings={"config.yaml": record})
        source = read_source(str(place / "run"))
        subject, reference = Subject(source), Reference(source)
        row: dict[str, Any] = {"images": len(reference.checked.images), "checked on": reference.checked.name}
        row["mean of the largest probability"] = round(float(torch.cat(reference.expected).amax(1).mean()), 3)
        row["PyTorch in another memory layout"] = other_layout(source, reference)
        start = time.perf_counter()
        for name in FORMATS:
            try:
                row[name] = export_file(subject, reference, name, place / f"model{SUFFIXES[name]}").largest
            except UserError as error:
                row[name] = str(error)
        return row | {"seconds": round(time.perf_counter() - start, 1)}


def lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet  # of the extra "test"

    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return model


def settled_weights(model: nn.Module, folder: Path) -> Path:
    """A file of the weights of a network, after it has seen some images in training mode."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = None  # the mean over all batches
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(16, 3, 7, 7).repeat_interleave(16, 2).repeat_interleave(16, 3))
    file = folder / "backbone.pth"
    torch.save(model.state_dict(), file)
    return file


def other_layout(source: Source, reference: Reference) -> float:
    """The largest difference of a probability between channels_last, which PyTorch is measured in, and the default."""
    with torch.inference_mode():
        pairs = zip(reference.batches, reference.expected, strict=True)
        return max(float((source.network(batch.clone()) - expected).abs().max()) for batch, expected in pairs)


class Own(nn.Module):
    """With group norm, dropout and a product of features, as users write networks."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.SiLU(), nn.Dropout(0.1))
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images).flatten(2)
        logits: Tensor = self.head((features @ features.transpose(1, 2)).flatten(1) / features.shape[2])
        return logits

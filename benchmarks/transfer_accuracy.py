"""Frozen features of ImageNet weights against those of random weights, on real CIFAR-10: EfficientNet-Lite0.

python -m benchmarks transfer_accuracy --data DIR

Random weights leave batch norm, in eval mode, with statistics that fit nothing: their features hardly differ from image
to image, and the recipe's head does no better than chance on them. So a logistic regression on standardised features
is measured too: it uses what information random features hold.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.common import save
from benchmarks.typed import BACKBONE
from cifar.compose import composed
from cifar.experiment import load_splits, run
from cifar.models.feature_cache import folder as feature_folder
from cifar.options.transfer import DEFAULT
from cifar.reporting import NO_REPORTER
from cifar.results import read_result

TRAIN, VAL = 5000, 2000
COMMON = [
    "transfer=frozen",
    *BACKBONE,
    *("data.mean=[0.498,0.498,0.498]", "data.std=[0.502,0.502,0.502]"),  # for random weights too
    *("optimizer=adam", "precision=fp32", f"data.limit={TRAIN + VAL}", f"data.val_size={VAL}"),
]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfer_accuracy", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/<class>/*")
    options = parser.parse_args(argv)
    weights = {"ImageNet": DEFAULT, "random": "random"}
    accuracy = {name: accuracies(options.data, path) for name, path in weights.items()}
    lines = [
        f"{classifier}: {accuracy['ImageNet'][classifier]:.4f} against {accuracy['random'][classifier]:.4f}"
        for classifier in accuracy["random"]
    ]
    save(
        "transfer-accuracy",
        "python -m benchmarks transfer_accuracy --data DIR",
        {
            "what": f"a classifier on frozen EfficientNet-Lite0 features, {TRAIN} training images at 128 pixels:"
            f" validation accuracy ({VAL} images), ImageNet weights against random ones",
            "figure": "; ".join(lines),
        }
        | accuracy,
    )


def accuracies(data: Path, weights: str) -> dict[str, float]:
    """Validation accuracy of the recipe's head, and of a logistic regression on standardised features."""
    config = composed("data=image_folder", f"data.root={data}", *COMMON, f"transfer.weights={weights}")
    with tempfile.TemporaryDirectory() as folder:
        best = run(config, folder, NO_REPORTER)
        keys = read_result(Path(folder))["transfer"]["cache_keys"]
    splits = load_splits(config)

    def features(key: str) -> Tensor:
        return load_file(feature_folder(config.cache.dir) / f"{key}.safetensors")["features"].to(torch.float64)

    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    regression.fit(features(keys["train"][0]).numpy(), splits.train.labels.numpy())
    standardised = regression.score(features(keys["val"]).numpy(), splits.val.labels.numpy())
    return {"the recipe's head, best of 10 epochs": best, "logistic regression": float(standardised)}

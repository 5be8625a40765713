"""Whether what is called unsure and unlike training is: frozen EfficientNet-Lite0 features of CIFAR-10.

python -m benchmarks unsure --data DIR --fashion FILE

Unlike: one run as users start it, with 5,000 images to train, 2,000 to validate and 2,000 to calibrate on; the shares
of images that it calls unlike training: test images, and three kinds of others. Unsure: 20 heads on the features of
these 9,000 images, each with another split and other weights; their errors on the test images that remain.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.common import save
from benchmarks.folders import idx_values
from benchmarks.transfer_accuracy import COMMON
from cifar.calibration import fit_temperature
from cifar.compose import composed
from cifar.data.images import Images
from cifar.experiment import run
from cifar.inference.marks import Marker
from cifar.inference.model import load_model
from cifar.inputs import configured_backbone
from cifar.options.config import Config
from cifar.options.transfer import Frozen
from cifar.reporting import NO_REPORTER
from cifar.resources import SHARED
from cifar.run_data import load_splits, load_test_images
from cifar.training.device import dtype_of
from cifar.unsure import CALIBRATION, VALIDATION, Outcomes

MODELS, TRAIN, VAL, CALIBRATE = 20, 5000, 2000, 2000
ERRORS = (0.02, 0.05, 0.1)
SHOWN = 1000
"""Images that are looked at for being unlike training, at most, of each kind."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks unsure", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10: a folder with train/ and test/<class>/*")
    parser.add_argument("--fashion", type=Path, required=True, help="t10k-images-idx3-ubyte.gz of Fashion-MNIST")
    options = parser.parse_args(argv)
    calibration = (f"data.calibration_size={CALIBRATE}", f"data.limit={TRAIN + VAL + CALIBRATE}")
    config = composed("data=image_folder", f"data.root={options.data}", *COMMON, *calibration)
    shares = unlike_shares(config, options.fashion)
    kept = kept_promises(config)
    broken = max(row["significantly above"] for row in kept[CALIBRATION].values())
    words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    save(
        "unsure",
        "python -m benchmarks unsure --data DIR --fashion FILE",
        {
            "what": f"unsure: models of {MODELS} whose test error among the rest is significantly above the promise"
            f" ({', '.join(map(str, ERRORS))}); unlike training: share of images, {len(shares)} kinds",
            "figure": f"at most {broken} of {MODELS}; {words}",
            "unlike": shares,
            "unsure": kept,
        },
    )


def unlike_shares(config: Config, fashion: Path) -> dict[str, float]:
    """By kind of image, the share that is called unlike training by a run's model."""
    with tempfile.TemporaryDirectory() as folder:
        run(config, folder, NO_REPORTER)
        model = load_model(folder)
    test = load_test_images(config, load_splits(config))
    chosen = test.take(np.linspace(0, len(test) - 1, 2 * SHOWN).round().astype(np.int64))
    cifar = chosen.images[0 : len(chosen)]
    grey = cifar[::2].float().mul(torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1).round().byte()
    kinds = {
        "CIFAR-10 test images": cifar,
        "Fashion-MNIST": enlarged(torch.from_numpy(idx_values(fashion, header=16).reshape(-1, 28, 28)[:SHOWN].copy())),
        "digits": enlarged(torch.from_numpy(load_digits().images[:SHOWN] * 255 / 16).byte()),
        "grey CIFAR-10 test images": grey[:, None].expand(-1, 3, -1, -1),
    }
    largest = Marker.of(model).largest
    assert largest is not None
    return {
        name: float(torch.cat([model.assess(batch).distances > largest for batch in images.split(100)]).double().mean())
        for name, images in kinds.items()
    }


def enlarged(grey: Tensor) -> Tensor:
    """uint8 (N, 3, 32, 32) of uint8 (N, H, W)."""
    pixels = nn.functional.interpolate(grey[:, None].float(), size=32, mode="bilinear", antialias=True)
    return pixels.round().clamp(0, 255).byte().expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class Data:
    """features float32 (N, F), labels int64 (N,)."""

    features: Tensor
    labels: Tensor

    def take(self, indices: Tensor) -> Data:
        return Data(self.features[indices], self.labels[indices])


def kept_promises(config: Config) -> dict[str, dict[str, dict[str, Any]]]:
    """By the images that thresholds are set on and the promised error: what the test images say of the models."""
    splits = load_splits(config)
    assert splits.calibration is not None
    parts = [features(config, images) for images in (splits.train, splits.val, splits.calibration)]
    pool = Data(torch.cat([part.features for part in parts]), torch.cat([part.labels for part in parts]))
    test = features(config, load_test_images(config, splits))
    results: dict[str, dict[str, list[tuple[float, float, bool]]]] = {CALIBRATION: {}, VALIDATION: {}}
    for seed in range(MODELS):
        order = torch.randperm(len(pool.labels), generator=torch.Generator().manual_seed(seed))
        train, val, calibration = map(pool.take, order.split([TRAIN, VAL, CALIBRATE]))
        head, temperature = trained(train, val, seed)
        of_test = outcomes(CALIBRATION, head, temperature, test)
        for part, data in ((CALIBRATION, calibration), (VALIDATION, val)):
            for error in ERRORS:
                rows = results[part].setdefault(str(error), [])
                rows += judged(outcomes(part, head, temperature, data), of_test, error)
        print("model", seed, {part: rows["0.05"][-1:] for part, rows in results.items()}, flush=True)
    return {part: {error: summary(rows) for error, rows in by.items()} for part, by in results.items()}


def features(config: Config, images: Images) -> Data:
    assert isinstance(config.transfer, Frozen)
    device = torch.device("cpu")
    dtype = dtype_of(config.precision, device)
    cache = SHARED.feature_cache(config.cache.dir, device, config.transfer.batch_size, dtype)
    return Data(cache.get(configured_backbone(config, SHARED), images).features, images.labels)


def trained(train: Data, val: Data, seed: int) -> tuple[nn.Linear, float]:
    """The head of the epoch, of 10, with the best validation accuracy, and its temperature."""
    torch.manual_seed(seed)
    head = nn.Linear(train.features.shape[1], 10)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    best, state = -1.0, head.state_dict()
    for _ in range(10):
        for batch in torch.randperm(len(train.labels)).split(128):
            loss = nn.functional.cross_entropy(head(train.features[batch]), train.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy = float((head(val.features).argmax(1) == val.labels).double().mean())
        if accuracy > best:
            best, state = accuracy, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(state)
    with torch.no_grad():
        return head, fit_temperature(head(val.features).numpy(), val.labels.numpy())


@torch.no_grad()
def outcomes(part: str, head: nn.Linear, temperature: float, data: Data) -> Outcomes:
    probabilities = (head(data.features) / temperature).softmax(1)
    return Outcomes.of(part, probabilities.numpy(), data.labels.numpy())


def judged(known: Outcomes, test: Outcomes, error: float) -> list[tuple[float, float, bool]]:
    """(test error, coverage, whether that error is significantly above the promise); empty where none was made."""
    threshold = known.at(error)
    if threshold is None:
        return []
    right = test.right[test.probabilities >= threshold.probability]
    wrong = int((~right).sum())
    is_above = stats.binomtest(wrong, len(right), error, "greater").pvalue < 0.05
    return [(wrong / len(right), len(right) / test.images, bool(is_above))]


def summary(rows: list[tuple[float, float, bool]]) -> dict[str, Any]:
    errors, coverages, above = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "models with a threshold": len(rows),
        "significantly above": sum(above),
        "test error, mean and largest": [float(np.mean(errors)), max(errors)] if rows else None,
        "test images that remain, mean and fewest": [float(np.mean(coverages)), min(coverages)] if rows else None,
    }

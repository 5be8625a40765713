"""An exported model in int8, measured against the same model in fp32, and refused where it loses too much."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar import formatting, intervals
from cifar.compose import recorded_splits
from cifar.data.images import Images
from cifar.data.pixels import Pixels
from cifar.data.split import Splits
from cifar.errors import UserError
from cifar.exporting import cost
from cifar.exporting.agreement import Agreement, Reference, batches
from cifar.exporting.files import export_file, replacing
from cifar.exporting.formats import Subject
from cifar.exporting.quantise import METHOD, OTHERS, Int8Error, add_metadata, quantise
from cifar.exporting.source import CheckImages, Source
from cifar.inference.held_out import set_anew
from cifar.inference.model import Model, load_model

CALIBRATION_IMAGES, CALIBRATION_SEED = 256, 0
"""Training images that the ranges of activations are measured on, at most, and the seed that draws them.

More images have more outliers: with 64, 256 and 1,024 images a resnet14 gave 99.1, 99.3 and 98.4% of 2,000 images of
Fashion-MNIST the class of fp32 (with weights of 7 bits).
"""
COMPARED_IMAGES = 2000
"""Validation images that both models are compared on, at most: a backbone takes 50 ms an image on a CPU."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Side:
    """A model in one precision: its accuracy, a fraction of 1, the bytes of its file, and its latencies."""

    accuracy: float
    bytes: int
    latencies: tuple[cost.Latency, ...]


@dataclass(frozen=True)
class Int8:
    """An exported int8 model, compared with the same model in fp32.

    `change`: of the accuracy on `images` of `of` validation images, with the ends of its 95% interval. `same`: the
    share of these with the class that PyTorch gives; `largest`, `mean`: differences of a probability. `operators`: how
    many are in int8, `calibration`: on what. `agreement`: that of the fp32 file with PyTorch.
    """

    before: Side
    after: Side
    change: tuple[float, float, float]
    same: float
    largest: float
    mean: float
    images: int
    of: int
    operators: str
    calibration: str
    agreement: Agreement

    @property
    def basis(self) -> str:
        counted = f"{self.images:,} of {self.of:,}" if self.images < self.of else f"{self.of:,}"
        return f"{counted} validation images"

    @property
    def change_text(self) -> str:
        change, low, high = self.change
        return f"{change:+.4f} (95% interval of the paired difference {low:+.4f} to {high:+.4f}) on {self.basis}"

    @property
    def agreement_text(self) -> str:
        return (
            f"the class is that of PyTorch for {self.same:.2%}; probabilities differ by {self.largest:.3f} at most,"
            f" {self.mean:.4f} in the mean"
        )

    @property
    def rows(self) -> list[dict[str, str]]:
        """What is compared, in fp32 and in int8, as texts."""
        sides = (self.before, self.after)
        pairs = zip(self.before.latencies, self.after.latencies, strict=True)
        return [
            _row("accuracy", *(f"{side.accuracy:.4f}" for side in sides)),
            _row("file", *(f"{formatting.format_count(side.bytes)}B" for side in sides)),
            *(
                _row(f"latency, batch of {pair[0].batch}", *(f"{latency.milliseconds:.2f} ms" for latency in pair))
                for pair in pairs
            ),
        ]

    @property
    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield "int8 against fp32: " + "; ".join(
            f"{row['what']} {row['int8']} against {row['fp32']}" for row in self.rows
        )
        yield f"change of the accuracy: {self.change_text}"
        yield f"on these, {self.agreement_text}"
        yield f"in int8: {self.operators}; calibrated on {self.calibration}"

    @property
    def facts(self) -> dict[str, str]:
        """For the metadata of the file; the accuracy is that of the model in it."""
        return {
            "precision": "int8",
            "int8_method": METHOD,
            "int8_operators": self.operators,
            "int8_calibrated_on": self.calibration,
            "validation_accuracy": str(self.after.accuracy),
            "validation_accuracy_fp32": str(self.before.accuracy),
            "validation_images": str(self.images),
        }


def _row(what: str, fp32: str, int8: str) -> dict[str, str]:
    return {"what": what, "fp32": fp32, "int8": int8}


@dataclass(frozen=True)
class RunImages:
    """The images of a run, and what PyTorch computes for at most COMPARED_IMAGES of those for validation."""

    splits: Splits
    reference: Reference


def read_images(source: Source) -> RunImages:
    """Raises Int8Error where the run's images are not at hand."""
    splits = _splits(source)
    compared = splits.val.sample(COMPARED_IMAGES)
    checked = CheckImages(compared.images[0 : len(compared)], "validation images", compared.labels)
    return RunImages(splits, Reference(source, checked))


def export_int8(subject: Subject, run: RunImages, out: Path, max_loss: float) -> Int8:
    """Write an int8 model to `out`, unless it loses more than `max_loss` of the validation accuracy.

    Raises Int8Error for that, otherwise as export_file does; `out` is as it was then.
    """
    splits, reference = run.splits, run.reference
    images, calibration = _calibration(splits.train)
    with tempfile.TemporaryDirectory() as folder, replacing(out) as temporary:
        fp32 = Path(folder) / "model.onnx"
        agreement = export_file(subject, reference, "onnx", fp32)
        operators = quantise(subject, fp32, images, temporary)
        model = load_model(temporary)
        result = _measured(reference, fp32, model, len(splits.val), operators, calibration, agreement)
        _check(result, max_loss)
        of_fp32 = {key: value for key, value in subject.metadata.items() if not key.startswith("test_")}
        metadata = of_fp32 | result.facts  # the test images are not evaluated again
        if subject.source.model.reliability is not None:
            metadata |= set_anew(splits, model.assess).metadata()
        add_metadata(temporary, metadata)
        return replace(result, after=replace(result.after, bytes=temporary.stat().st_size))


def probabilities(model: Model, images: Pixels) -> Tensor:
    """float32 (N, classes), of images uint8 (N, 3, size, size) in memory or on disk."""
    return torch.cat([model.probabilities(batch) for batch in batches(images)])


def _splits(source: Source) -> Splits:
    """The images of the run. Raises Int8Error where they are not at hand."""
    try:
        return recorded_splits(source.run)
    except UserError as error:
        reason = str(error).partition("; allowed")[0]
        raise Int8Error(
            f"--int8: is calibrated on training images of the run and measured on its validation images, which are not"
            f" at hand ({reason}); allowed: the run with its images where they were, or {OTHERS}; nothing was written"
        ) from error


def _calibration(train: Images) -> tuple[Tensor, str]:
    """Some training images, uint8 (N, 3, size, size), and what they are in words."""
    count = min(len(train), CALIBRATION_IMAGES)
    drawn = np.random.default_rng(CALIBRATION_SEED).permutation(len(train))[:count]
    images = train.take(np.sort(drawn)).images[0:count]
    return images, f"{count:,} of {len(train):,} training images (seed {CALIBRATION_SEED}), not augmented"


def _measured(
    reference: Reference, fp32: Path, int8: Model, of: int, operators: str, calibration: str, agreement: Agreement
) -> Int8:
    expected, computed = torch.cat(reference.expected), probabilities(int8, reference.checked.images)
    labels = reference.checked.labels
    assert labels is not None
    rights = [(each.argmax(1) == labels).numpy() for each in (expected, computed)]
    files = fp32, int8.chosen.file
    latencies = cost.latencies(files, reference.checked.images.shape[-1])
    before, after = map(_side, files, rights, latencies)
    differences = (computed - expected).abs()
    return Int8(
        before=before,
        after=after,
        change=intervals.paired_difference(*rights),
        same=float((computed.argmax(1) == expected.argmax(1)).double().mean()),
        largest=float(differences.max()),
        mean=float(differences.mean()),
        images=len(labels),
        of=of,
        operators=operators,
        calibration=calibration,
        agreement=agreement,
    )


def _side(file: Path, right: NDArray[np.bool_], latencies: tuple[cost.Latency, ...]) -> Side:
    return Side(float(right.mean()), file.stat().st_size, latencies)


def _check(result: Int8, max_loss: float) -> None:
    if -result.change[0] > max_loss + ROUNDING:
        raise Int8Error(
            f"--int8: validation accuracy {result.after.accuracy:.4f} in int8, {result.before.accuracy:.4f} in fp32:"
            f" {result.change_text}; allowed: a loss of at most {max_loss:g} (--max-loss), or {OTHERS}; nothing was"
            " written"
        )

"""What is wrong with a data set: findings, and the kinds of them that one image or its class shows.

A kind is a subclass of Kind: its name, one line of advice, and how it is found. KINDS of cifar.inspection.kinds lists
them in the order of the report.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cifar.inspection.quality import MEASURED, Measures
from cifar.inspection.survey import Survey
from cifar.options.splits import TEST, TRAIN

COMMON = 0.2
"""A kind of more than this share of the images is a property of the data set: one sentence says so."""
DARK, BRIGHT = 0.2, 0.9
"""Brightness, 0 to 1, that 99% of the pixels of a dark image are below, and 95% of those of a bright one above."""
EMPTY = 0.03
"""98% of the pixels of an empty image are within this range of brightness."""
BLURRED, TYPICAL, LEAST_SHARE = 0.02, 4.0, 0.25
"""An image is blurred where its sharpness is below 0.02, or so many standard deviations (of logarithms) below the
median of images of about its size, and below a quarter of it."""
LEAST_ALIKE = 30
"""Images of about one size that are compared with one another."""
NARROW = 2.5
"""An aspect ratio is odd where it is so many times that of the median image, or the reverse."""
LARGER, QUARTILES = 4.0, 3.0
"""A size is odd where the side is 4 times beyond the quartiles, and so many interquartile ranges (of logarithms)."""
SMALL_CLASS, SMALL_SHARE = 20, 0.1
"""A class is small with fewer training images, or with less than a tenth of the median class."""
UNBALANCED = 10.0
"""Classes are unbalanced where the largest has more than 10 times the images of the smallest."""


@dataclass(frozen=True)
class Finding:
    """`file` and `related` are names below data.root, or positions; "" for what concerns a class.

    `value`: in words, what was found. `suggested`: a class that fits better. `indices`: of the samples, the related one
    last.
    """

    kind: str
    file: str
    part: str
    label: str
    value: str
    related: str = ""
    suggested: str = ""
    indices: tuple[int, ...] = ()


class Kind(ABC):
    """One thing that may be wrong. `action`: what the page suggests: drop, relabel or group."""

    name: ClassVar[str]
    title: ClassVar[str]
    advice: ClassVar[str]
    action: ClassVar[str] = "drop"
    property: ClassVar[str] = ""
    """In words, what more than COMMON of the images are then; "" where every finding counts."""

    @abstractmethod
    def find(self, survey: Survey) -> list[Finding]:
        """The findings of this kind, the worst first."""

    def of(self, survey: Survey, index: int, value: str, related: int | None = None, suggested: str = "") -> Finding:
        """The finding of one sample."""
        sample = survey.samples[index]
        other = "" if related is None else survey.samples[related].file
        indices = (index,) if related is None else (index, related)
        return Finding(self.name, sample.file, sample.part, sample.label, value, other, suggested, indices)


class Unreadable(Kind):
    name, title = "unreadable", "Unreadable files"
    advice = "repair them, or leave them out: a run refuses them"

    def find(self, survey: Survey) -> list[Finding]:
        return [self.of(survey, index, error) for index, error in survey.errors.items()]


class Measured(Kind):
    """A kind that the measures of each image show, against those of all."""

    @abstractmethod
    def scores(self, survey: Survey) -> NDArray[np.float64]:
        """Of each readable sample: above 0 for a finding, the larger, the worse."""

    @abstractmethod
    def value(self, measures: Measures) -> str:
        """What was found, in words."""

    def find(self, survey: Survey) -> list[Finding]:
        scores = self.scores(survey)
        order = np.argsort(-scores, kind="stable")
        indices = survey.readable[order[scores[order] > 0]].tolist()
        return [self.of(survey, index, self.value(survey.known(index))) for index in indices]


class OddMode(Measured):
    name, title = "odd_mode", "Another colour mode than most"
    advice = "they are converted to 8-bit RGB; look whether transparency or 16 bits hold what you need"
    property = "are in another colour mode than most"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        modes = [survey.known(index).mode for index in survey.readable]
        counts = Counter(modes)
        usual = counts.most_common(1)[0][0]
        return np.array([0.0 if mode == usual else 1 / counts[mode] for mode in modes])

    def value(self, measures: Measures) -> str:
        return MODES.get(measures.mode, measures.mode)


MODES = {
    **{"L": "grey", "RGB": "RGB", "RGBA": "RGB with transparency", "LA": "grey with transparency", "P": "palette"},
    **{"1": "black and white", "CMYK": "CMYK", "I": "32-bit grey", "F": "grey floats"},
    **{"I;16": "16-bit grey", "I;16B": "16-bit grey", "I;16L": "16-bit grey"},
}
"""Pillow's modes in words."""


class OddSize(Measured):
    name, title = "odd_size", "Much larger or smaller than most"
    advice = "enlarged thumbnails have no detail; look whether they belong to the data"
    property = "are much larger or smaller than most"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        sides = np.log(survey.column("width") * survey.column("height")) / 2
        low, high = np.quantile(sides, (0.25, 0.75))
        margin = max(np.log(LARGER), QUARTILES * (high - low))
        scores: NDArray[np.float64] = np.maximum(low - sides, sides - high) - margin
        return scores

    def value(self, measures: Measures) -> str:
        return _size(measures)


class OddAspect(Measured):
    name, title = "odd_aspect", "Much wider or higher than most"
    advice = "cropping to a square loses most of them; crop them yourself or use data.fit=pad"
    property = "are much wider or higher than most"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        ratios = np.log(survey.column("width") / survey.column("height"))
        scores: NDArray[np.float64] = np.abs(ratios - np.median(ratios)) - np.log(NARROW)
        return scores

    def value(self, measures: Measures) -> str:
        return _size(measures)


class Empty(Measured):
    name, title = "empty", "Nearly one colour"
    advice = "nothing is to be seen on them: leave them out"
    property = "are nearly one colour"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        return EMPTY - survey.column("contrast")

    def value(self, measures: Measures) -> str:
        return f"98% of the pixels differ by at most {100 * measures.contrast:.0f}% of the brightness"


class Dark(Measured):
    name, title = "dark", "Dark"
    advice = "leave out what cannot be recognised"
    property = "are dark"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        return np.where(survey.column("contrast") < EMPTY, 0, DARK - survey.column("dark"))

    def value(self, measures: Measures) -> str:
        return f"99% of the pixels below {100 * measures.dark:.0f}% brightness"


class Bright(Measured):
    name, title = "bright", "Bright"
    advice = "leave out what cannot be recognised"
    property = "are bright"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        return np.where(survey.column("contrast") < EMPTY, 0, survey.column("bright") - BRIGHT)

    def value(self, measures: Measures) -> str:
        return f"95% of the pixels above {100 * measures.bright:.0f}% brightness"


class Blurred(Measured):
    name, title = "blurred", "Blurred"
    advice = "leave out what cannot be recognised; blurred images in use later belong into the data"
    property = "are blurred or have been enlarged"

    def scores(self, survey: Survey) -> NDArray[np.float64]:
        sharp = np.log(np.maximum(survey.column("sharpness"), 1e-6))
        sides = np.minimum(np.maximum(survey.column("width"), survey.column("height")), MEASURED)
        sizes = np.round(np.log2(sides))  # 32, 64, 128 and 256 pixels and more
        cuts = np.full(len(sharp), np.log(BLURRED))
        for size in np.unique(sizes):
            alike = sizes == size
            if alike.sum() >= LEAST_ALIKE:
                cuts[alike] = np.maximum(cuts[alike], self._unusual(sharp[alike]))
        return np.where(survey.column("contrast") < EMPTY, 0, cuts - sharp)

    def _unusual(self, sharp: NDArray[np.float64]) -> float:
        low, median = np.quantile(sharp, (0.1, 0.5))
        deviation = (median - low) / 1.2816  # of a normal distribution
        return float(median - max(TYPICAL * deviation, -np.log(LEAST_SHARE)))

    def value(self, measures: Measures) -> str:
        return f"sharpness {measures.sharpness:.2g}"


class SmallClass(Kind):
    name, title = "small_class", "Small classes"
    advice = "add images, or leave the class out: it can hardly be learned or judged"
    action = ""

    def find(self, survey: Survey) -> list[Finding]:
        counts = class_counts(survey)
        least = max(SMALL_CLASS, SMALL_SHARE * float(np.median(list(counts.values()))))
        small = sorted((count, name) for name, count in counts.items() if count < least)
        return [Finding(self.name, "", TRAIN, name, f"{count} training images") for count, name in small]


class Imbalance(Kind):
    name, title = "imbalance", "Unequal classes"
    advice = "try loss.class_weights=balanced, and objective=balanced_accuracy"
    action = ""

    def find(self, survey: Survey) -> list[Finding]:
        counts = class_counts(survey)
        (most, largest), (least, smallest) = counts.most_common(1)[0][::-1], counts.most_common()[-1][::-1]
        if most <= UNBALANCED * least:
            return []
        times = f"{most / least:.0f} times" if least else "infinitely often"
        value = f"{most} training images of {largest}, {least} of {smallest}: {times} as many"
        return [Finding(self.name, "", TRAIN, smallest, value)]


def class_counts(survey: Survey) -> Counter[str]:
    """Readable training images of each class, those that are validated on included."""
    counts = Counter(dict.fromkeys(survey.classes, 0))
    samples = (survey.samples[index] for index in survey.readable.tolist())
    counts.update(sample.label for sample in samples if sample.source == TRAIN and sample.part != TEST)
    return counts


def _size(measures: Measures) -> str:
    return f"{measures.width}x{measures.height} pixels"

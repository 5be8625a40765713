"""Which predictions are unsure and which images are unlike training, by what a model knows of its reliability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cifar.compose import recorded_splits
from cifar.errors import UserError
from cifar.inference.held_out import set_anew
from cifar.inference.model import Assessment, Model, TrainedModel
from cifar.unsure import CALIBRATION, FALSE_ALARMS, MAX_ERROR, Reliability, Threshold

UNSURE, UNLIKE = "unsure", "unlike training"


class MarksError(UserError):
    """A threshold is asked for that cannot be set."""


@dataclass(frozen=True)
class Mark:
    """Of one prediction; None: not known. `distance`: of the image to those of training (cifar.unlike)."""

    unsure: bool | None
    unlike: bool | None
    distance: float | None

    @property
    def words(self) -> list[str]:
        """For people; none where nothing is to be said."""
        return [word for word, applies in ((UNSURE, self.unsure), (UNLIKE, self.unlike)) if applies]

    def as_json(self) -> dict[str, Any]:
        distance = None if self.distance is None else float(f"{self.distance:.6g}")
        return asdict(self) | {"distance": distance}


@dataclass(frozen=True)
class Marker:
    """Marks predictions. `threshold` None: not known which are unsure; `largest` None: nor which images are unlike.

    `lines` say what the marks mean, or why there are none. `promise`: the same as facts; None: not known.
    """

    threshold: Threshold | None
    largest: float | None
    lines: tuple[str, ...]
    promise: dict[str, Any] | None = None

    @classmethod
    def of(cls, model: Model, tta: str = "none", max_error: float | None = None) -> Marker:
        """For a model that is used with `tta`; `max_error` None: MAX_ERROR, as far as it is known at once.

        Raises MarksError, or what reading the run's images raises, where `max_error` is asked for and cannot be had.
        """
        known = model.reliability
        if known is None:
            return cls(None, None, (_unknown(model, max_error),))
        unlike = _unlike(known)
        if tta == "none":
            reliability = known
        elif max_error is None:
            return cls(None, known.largest, (_unknown_with_tta(model, tta), unlike))
        else:
            reliability = _with_tta(model, tta)
        allowed = MAX_ERROR if max_error is None else max_error
        thresholds = reliability.thresholds
        lines = thresholds.in_words(allowed), unlike
        return cls(thresholds.at(allowed), known.largest, lines, thresholds.facts(allowed))

    def facts(self) -> dict[str, Any]:
        """What the marks mean, for JSON. Null: not known; `probability` is null where no promise can be made."""
        unlike = None if self.largest is None else {"distance": self.largest, "false_alarms": FALSE_ALARMS}
        unsure = None
        if self.promise is not None:
            unsure = self.promise | {"estimate": self.promise["part"] != CALIBRATION}
        return {"unsure": unsure, "unlike": unlike}

    def marks(self, assessment: Assessment) -> Iterator[Mark]:
        """Of each image, in order."""
        probabilities = assessment.probabilities.amax(1).tolist() if len(assessment.probabilities) else []
        for probability, distance in zip(probabilities, assessment.distances.tolist(), strict=True):
            unsure = None if self.threshold is None else probability < self.threshold.probability
            if self.largest is None:
                yield Mark(unsure, None, None)
            else:
                yield Mark(unsure, distance > self.largest, distance)


def _unknown(model: Model, max_error: float | None) -> str:
    """Why nothing is known. Raises MarksError where it was asked for."""
    reason = "its run has not ended, or was of an earlier version of this program"
    remedy = "resume the run to its end or train again, with data.calibration_size for a promise"
    if max_error is not None:
        raise MarksError(
            f"--max-error {max_error:g}: {model.chosen.file} does not say when it is right: {reason};"
            f" {remedy}, and export again"
        )
    return f"unsure, unlike training: not known, as {reason}"


def _unknown_with_tta(model: Model, tta: str) -> str:
    remedy = "the run that it was exported from can set its threshold"
    if isinstance(model, TrainedModel):
        remedy = f"--max-error {MAX_ERROR} sets its threshold on the run's images"
    return f"unsure: not known with --tta {tta}; {remedy}"


def _unlike(known: Reliability) -> str:
    if known.largest is None:
        return "unlike training: not known, as there were too few images to set its threshold on"
    share = f"{FALSE_ALARMS:.0%} of images like those of training are farther"
    return f"unlike training: distance above {known.largest:.4f}; {share}"


def _with_tta(model: Model, tta: str) -> Reliability:
    if not isinstance(model, TrainedModel):
        raise MarksError(
            f"--max-error with --tta {tta}: the thresholds in {model.chosen.file} are for images as they are; allowed:"
            " --tta none, or the run that it was exported from"
        )
    return set_anew(recorded_splits(model.chosen.file.parent), lambda images: model.assess(images, tta))


class Tally:
    """Counts marks of labelled images: how many of the predictions that remain are right."""

    def __init__(self) -> None:
        self.images = self.unlike = self.unsure = self.remaining_right = 0

    def add(self, marks: Sequence[Mark], right: Sequence[bool]) -> None:
        self.images += len(marks)
        self.unlike += sum(mark.unlike is True for mark in marks)
        self.unsure += sum(mark.unsure is True for mark in marks)
        self.remaining_right += sum(
            correct and mark.unsure is False for mark, correct in zip(marks, right, strict=True)
        )

    def figures(self, marker: Marker) -> dict[str, Any]:
        """For JSON; null where it is not known."""
        remaining = self.images - self.unsure
        is_known = marker.threshold is not None
        return {
            "unsure": self.unsure if is_known else None,
            "accuracy_without_unsure": self.remaining_right / remaining if is_known and remaining else None,
            "unlike": None if marker.largest is None else self.unlike,
        }

    def lines(self, marker: Marker) -> list[str]:
        figures, lines = self.figures(marker), []
        if marker.threshold is not None:
            share = figures["accuracy_without_unsure"]
            others = "" if share is None else f"; accuracy of the others {share:.4f}"
            lines.append(f"unsure: {self.unsure} of {self.images} images{others}")
        if marker.largest is not None:
            lines.append(f"unlike training: {self.unlike} of {self.images} images")
        return lines

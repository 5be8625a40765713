"""What is measured of a run's best weights, once all epochs are done: how reliable they are, and on the test part."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from cifar import comparison, examples, leaks, metadata, predictions, reliability
from cifar.data.images import Images
from cifar.objective import balanced_accuracy, macro_f1
from cifar.reliability import ReliabilityError
from cifar.resources import Resources
from cifar.results import BEST
from cifar.run_data import RunData, TestData
from cifar.saving import RunSaver
from cifar.tasks import Task
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError
from cifar.training.trainer import Evaluation, Trainer, evaluate
from cifar.unsure import MAX_ERROR

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The weights in the best.pt of the run directory `path`. Each method returns what result.json says of them.

    Where best.pt is missing or damaged, as after resuming from a directory without one, the run ends well, and says
    nothing of them. `in_background` runs a function that writes files beside the training of other runs.
    """

    path: Path
    task: Task
    trainer: Trainer
    saver: RunSaver
    data: RunData
    resources: Resources
    in_background: Callable[[Callable[[], None]], None]

    @cached_property
    def content(self) -> dict[str, Any] | None:
        """That of best.pt, whose weights are in the trainer's model then; None, with a warning, where it has none."""
        path = self.path / BEST
        try:
            best = checkpoint.load(path)
            checkpoint.load_weights(self.trainer.measured, best["model"], path)
        except CheckpointError as error:
            log.warning("%s; nothing is measured of the best weights: what is unsure, test images, from_run", error)
            return None
        return best

    def reliability(self) -> dict[str, Any]:
        """Add to best.pt how reliable its predictions are, as far as that can be known."""
        best, trainer = self.content, self.trainer
        if best is None:
            return {}
        temperature = (best.get("calibration") or {}).get("temperature")
        try:
            state = reliability.measured(self.task, trainer.measured, trainer.val, self.data.splits, temperature)
        except ReliabilityError as error:
            log.warning("unsure, unlike training: not known, as %s; the rest of the run is not affected", error)
            return {}
        self.in_background(partial(checkpoint.save, self.path / BEST, best | {"reliability": state}))
        thresholds = reliability.restored(state).thresholds
        if thresholds.at(MAX_ERROR) is not None:  # else predict says why nothing is marked
            log.info("%s", thresholds.in_words(MAX_ERROR))
        return {"unsure": thresholds.facts(MAX_ERROR)}

    def save_examples(self) -> dict[str, Any]:
        """Write the few images that the report shows."""
        first = self.task.first_images(examples.FIRST)
        rows, val = self.saver.val_rows(), self.data.splits.val
        self.in_background(partial(examples.save, self.path / predictions.EXAMPLES, rows, val, first))
        return {}

    def test(self, test: TestData | None) -> dict[str, Any]:
        """Evaluate the weights on the test part."""
        if test is None or self.content is None:
            return {}
        images, epoch = test.images, self.content["epoch"]
        result, logits = self._scores(images)
        self.saver.save_test(images, logits)
        missing, accuracy = images.missing_classes(), result["accuracy"]
        present = len(images.classes) - len(missing)
        scope = f" in {present} of {len(images.classes)} classes (none of {', '.join(missing)})" if missing else ""
        log.info("test accuracy %.4f of %d images%s (weights of epoch %d)", accuracy, len(images), scope, epoch)
        result |= {"epoch": epoch, "also_in_train": test.also_in_train}
        result |= metadata.unreadable_facts({"test": images})
        if test.without_fixes is not None:
            result["without_fixes"], _ = self._scores(test.without_fixes)
            log.info("test accuracy without data.fixes %.4f", result["without_fixes"]["accuracy"])
        return {"test": result | ({"missing_classes": missing} if missing else {})}

    def without_leaks(self, test: TestData | None) -> dict[str, Any]:
        """The accuracies without the images that are among the training images too; test() has been called."""
        return {"without_leaks": leaks.measured(self.path, self.data, test)}

    def compare(self, test: TestData | None) -> dict[str, Any]:
        """Beside the weights of the run that this one began with; empty where it began anew."""
        initial = self.data.initial
        if initial is None or self.content is None:
            return {}
        images = test.images if test else None
        model, val = self.trainer.measured, self.data.splits.val
        facts = comparison.compared(initial, self.task, model, val, images, self.resources)
        comparison.log_comparison(facts)
        return {"compared": facts}

    def _scores(self, images: Images) -> tuple[dict[str, Any], list[Tensor]]:
        """What the weights at hand reach on test images, and their logits, float32 (N, K) in batches."""
        values, logits = evaluate(self.trainer.score, self.task.evaluation(images))
        evaluation = Evaluation.of(values)
        scores = evaluation.class_scores
        result = {"loss": evaluation.loss, "accuracy": evaluation.accuracy, "images": len(images)}
        return result | {"balanced_accuracy": balanced_accuracy(scores), "macro_f1": macro_f1(scores)}, logits

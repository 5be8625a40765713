"""Saving a run after each epoch, and resuming it: checkpoint.pt, best.pt, confusion.csv, classes.csv, predictions.csv,
metrics.csv.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cifar import predictions
from cifar.calibration import Floats, calibrate
from cifar.data.images import Images
from cifar.objective import ACCURACY
from cifar.reporting import EpochMetrics
from cifar.results import BEST, RunDirectory, best_of, same_directory
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError
from cifar.training.trainer import Trainer

log = logging.getLogger(__name__)
BEST_FILES = (BEST, "confusion.csv", "classes.csv", predictions.FILE)
"""What is written when an epoch is the best so far."""


class RunSaver:
    """Writes a run's files after each epoch. `description` is what best.pt holds besides the weights: how to build
    the model, its classes, and the preprocessing. `settings` are those of the run, by full key, `val` its validation
    images. `facts` are what result.json says of the best epoch besides its figures.
    """

    def __init__(
        self,
        directory: RunDirectory,
        trainer: Trainer,
        val: Images,
        description: dict[str, Any],
        settings: dict[str, Any],
    ) -> None:
        self.directory = directory
        self.trainer = trainer
        self.val = val
        self.description = description
        self.settings = settings
        self.facts: dict[str, Any] = {}

    def save(self, state: dict[str, Any], history: Sequence[EpochMetrics]) -> None:
        """Save the last epoch of `history`; `state` is the trainer's after it.

        checkpoint.pt holds the history too, and resuming restores metrics.csv from it, so the run can be killed at any
        moment.
        """
        latest = history[-1]
        if best_of(history, self.trainer.objective) is latest:
            self._save_best(state, latest)
        rows = [asdict(metrics) for metrics in history]
        record = {"history": rows, "settings": self.settings}
        checkpoint.save(self.directory.path / "checkpoint.pt", state | record)
        self.directory.append(latest)

    def _save_best(self, state: dict[str, Any], latest: EpochMetrics) -> None:
        objective = self.trainer.objective
        columns = ("epoch", ACCURACY.column, objective.column)
        measured = {name: getattr(latest, name) for name in columns} | {"objective": objective.name}
        weights = (state["average"] or state)["model"]  # those that were measured
        logits = _joined(self.trainer.val_logits)
        calibration = asdict(calibrate(logits, self.val.labels.numpy()))
        content = {"model": weights} | self.description | measured | {"calibration": calibration}
        checkpoint.save(self.directory.path / BEST, content)
        self.facts = {"calibration": calibration}
        validated = self.trainer.validated
        assert validated is not None
        self.directory.write_confusion(self.description["classes"], validated.confusion.tolist())
        self.directory.write_classes(self.description["classes"], validated.class_scores)
        predictions.write(self._predictions, self._rows(predictions.VAL, self.val, logits))

    def save_test(self, images: Images, logits: Sequence[Tensor]) -> None:
        """Add what the best epoch predicts of the test images to predictions.csv; `logits` (N, K), in batches."""
        rows = self.val_rows() + self._rows(predictions.TEST, images, _joined(logits))
        predictions.write(self._predictions, rows)

    def val_rows(self) -> list[predictions.Row]:
        """What the best epoch predicts of validation images; none where that was not saved or is damaged."""
        try:
            return [row for row in predictions.read(self._predictions) if row.part == predictions.VAL]
        except ValueError as error:
            log.warning("%s; what it says of validation images is lost", error)
            return []

    @property
    def _predictions(self) -> Path:
        return self.directory.path / predictions.FILE

    def _rows(self, part: str, images: Images, logits: Floats) -> list[predictions.Row]:
        temperature = self.facts.get("calibration", {}).get("temperature")
        return predictions.rows_of(part, images.names, images.classes, images.labels.numpy(), logits, temperature)

    def resume(self) -> None:
        """Take over what the best.pt in the directory says of the best epoch; an old one says nothing."""
        path = self.directory.path / BEST
        with suppress(CheckpointError):  # where it is missing or damaged, the best epoch is known nevertheless
            best = checkpoint.load(path)
            self.facts = {"calibration": best["calibration"]} if "calibration" in best else {}


def _joined(batches: Sequence[Tensor]) -> Floats:
    """Batches on any device as one array."""
    joined: Floats = torch.cat([batch.cpu() for batch in batches]).numpy()
    return joined


def resume(
    trainer: Trainer, source: Path, settings: Mapping[str, Any], recorded: Mapping[str, Any]
) -> tuple[list[EpochMetrics], dict[str, Any]]:
    """Put `trainer` into the state that the run in the directory `source` had after its last finished epoch.

    Where the `settings` differ from those of the checkpoint, the new ones take effect; `recorded` are those of a
    checkpoint that does not hold them. Returns the epochs that are done, and the content of the checkpoint; both are
    empty before the first one. Raises CheckpointError where there is no checkpoint or it does not fit the trainer.
    """
    path = source / "checkpoint.pt"
    if not path.exists() and (source / "result.json").exists():
        log.info("%s has no finished epoch: training starts with the first one", source)
        return [], {}
    state = checkpoint.load(path)
    try:
        history = [EpochMetrics(**row) for row in state["history"]]
        checkpoint.load_weights(trainer.model, state["model"], path)
        before = state.get("settings", recorded)
        changed = {key for key, value in settings.items() if key in before and before[key] != value}
        trainer.load_state_dict(state, changed)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the run had other settings ({error!r}); resume it with the settings that it was started with"
        ) from error
    log.info("resuming %s after epoch %d%s", source, trainer.done, "" if trainer.done < trainer.total else ", its last")
    return history, state


def copy_best_files(source: Path, target: Path) -> None:
    """Copy the files of the best epoch to another run directory."""
    if same_directory(source, target):
        return
    for name in BEST_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)

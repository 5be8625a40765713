"""The columns of the frames, and how rows become a frame."""

from __future__ import annotations

from typing import Any

import pandas as pd

Columns = dict[str, tuple[str, str]]
"""The columns of a frame: dtype and meaning by name. Missing texts are empty, missing numbers and times NA."""

TEXT = "str"
WHOLE = "Int64"
NUMBER = "float64"
FLAG = "bool"
LOCAL = "datetime64[us]"
SPACES: Columns = {
    "branch": (TEXT, "the trials that it holds for, by the options that they drew, as optimizer=sgd; empty: all"),
    "hyperparameter": (TEXT, "its key, as optimizer.lr"),
    "kind": (TEXT, "number or choice"),
    "low": (NUMBER, "smallest value; of a choice of numbers too"),
    "high": (NUMBER, "largest value"),
    "log": (FLAG, "searched by its logarithm"),
    "whole": (FLAG, "whole numbers only"),
    "choices": ("object", "tuple of what can be chosen, None of a number"),
}
TRIALS: Columns = {
    "number": (WHOLE, "in its study"),
    "state": (TEXT, "Optuna's: COMPLETE, PRUNED, RUNNING, WAITING, FAIL"),
    "outcome": (
        TEXT,
        "complete, pruned, running, waiting; of a FAIL: failed, diverged, replaced, lost, interrupted, withdrawn",
    ),
    "reason": (TEXT, "why a failed trial failed"),
    "value": (NUMBER, "the objective, as the best validation accuracy of its epochs, share of 1"),
    "score": (NUMBER, "the value where it is below 1e100 in size, negated where the study minimizes: larger is better"),
    "last_step": (WHOLE, "the last epoch that it reported"),
    "last_score": (NUMBER, "what it reported there, signed as score; NaN where that is not finite"),
    "started": (LOCAL, "local time"),
    "ended": (LOCAL, "local time"),
    "seconds": (NUMBER, "from start to end"),
    "worker": (TEXT, "host, process and index"),
    "retry_of": (WHOLE, "the trial that it retries"),
    "branch": (TEXT, "options that decided what else was searched, as optimizer=sgd; empty where none did"),
    "run": (TEXT, "its run directory, empty where there is none"),
    "problem": (TEXT, "what could not be read"),
}
"""And a column params.KEY for each hyperparameter, NaN or None in the trials that did not have it."""
RUNS: Columns = {
    "run": (TEXT, "run directory"),
    "status": (TEXT, "running, finished, pruned, interrupted, diverged, failed; empty where not known"),
    "message": (TEXT, "why it ended, where it did not finish"),
    "problem": (TEXT, "what could not be read"),
    "started": ("datetime64[us, UTC]", "start of the run"),
    "seed": (WHOLE, "of weights, order and augmentation"),
    "epochs": (WHOLE, "planned"),
    "epochs_done": (WHOLE, "epochs"),
    "objective": (TEXT, "accuracy, balanced_accuracy, macro_f1 or loss: what chose the best epoch"),
    "best_epoch": (WHOLE, "the best by the objective"),
    "score": (NUMBER, "the objective in the best epoch, negated where it is minimized: larger is better"),
    "val_accuracy": (NUMBER, "of the best epoch, share of 1"),
    "val_loss": (NUMBER, "of the best epoch, nats"),
    "val_balanced_accuracy": (NUMBER, "of the best epoch, share of 1; NaN in runs of earlier versions"),
    "val_macro_f1": (NUMBER, "of the best epoch, share of 1; NaN in runs of earlier versions"),
    "test_accuracy": (NUMBER, "share of 1, NaN where the test set was not evaluated"),
    "test_balanced_accuracy": (NUMBER, "share of 1, NaN where the test set was not evaluated, and in earlier versions"),
    "test_macro_f1": (NUMBER, "likewise"),
    "test_loss": (NUMBER, "nats, NaN likewise"),
    "test_images": (WHOLE, "images"),
    "ece_before": (NUMBER, "expected calibration error on validation images; NaN in runs of earlier versions"),
    "ece_after": (NUMBER, "likewise, with a temperature that was fitted on other ones of these images"),
    "train_seconds": (NUMBER, "training and validation of all epochs"),
    "parameters": (WHOLE, "of the model"),
    "flops": (WHOLE, "of an image's forward pass, 2 for a multiply-add"),
    "train_images": (WHOLE, "images"),
    "val_images": (WHOLE, "images"),
    "val_fingerprint": (TEXT, "of the validation images: equal for equal splits"),
    "also_in_train": (WHOLE, "validation images that the run trained on too, pixel by pixel; NA in earlier versions"),
    "test_also_in_train": (
        WHOLE,
        "test images that the run trained on too, likewise; NA where these were not evaluated",
    ),
    "val_duplicates": (WHOLE, "validation images that are training images too, by data.check_duplicates; NA if none"),
    "val_accuracy_without": (NUMBER, "of the best epoch on the other validation images, share of 1; NaN likewise"),
    "test_duplicates": (WHOLE, "test images that are training images too, likewise"),
    "test_accuracy_without": (NUMBER, "on the other test images, share of 1; NaN likewise"),
    "device": (TEXT, "cpu or cuda"),
    "fixes_dropped": (WHOLE, "images that data.fixes drops; NA where it is null"),
    "fixes_relabelled": (WHOLE, "likewise, that it gives another class"),
    "fixes_grouped": (WHOLE, "likewise, that it puts into groups"),
    "test_accuracy_without_fixes": (NUMBER, "share of 1, NaN where data.fixes changes no test image"),
}
"""And a column config.KEY for each setting of the run."""
EPOCHS: Columns = {
    "run": (TEXT, "run directory"),
    "epoch": (WHOLE, "from 1"),
    "train_loss": (NUMBER, "mean cross-entropy, nats"),
    "train_accuracy": (NUMBER, "share of 1"),
    "val_loss": (NUMBER, "mean cross-entropy, nats"),
    "val_accuracy": (NUMBER, "share of 1"),
    "lr": (NUMBER, "of the first parameter group in the last step"),
    "seconds": (NUMBER, "training and validation"),
    "images_per_second": (NUMBER, "training images"),
    "val_balanced_accuracy": (NUMBER, "share of 1; NaN in runs of earlier versions"),
    "val_macro_f1": (NUMBER, "share of 1; NaN in runs of earlier versions"),
    "score": (NUMBER, "the objective of the run, negated where it is minimized: larger is better"),
}
CONFIRMATION_RUNS: Columns = {
    "number": (WHOLE, "of the trial that was confirmed"),
    "reported": (NUMBER, "its score in the search"),
    "seed": (WHOLE, "one that the search did not use"),
    "score": (NUMBER, "with that seed"),
    "run": (TEXT, "run directory"),
}
TESTS: Columns = {
    "look": (WHOLE, "from 1: how often the test set had been evaluated, this time included"),
    "number": (WHOLE, "of the trial that was chosen"),
    "seed": (WHOLE, "of the run that was evaluated"),
    "accuracy": (NUMBER, "on the test images, share of 1"),
    "balanced_accuracy": (NUMBER, "on the test images, share of 1"),
    "macro_f1": (NUMBER, "on the test images, share of 1"),
    "loss": (NUMBER, "on the test images, nats"),
    "images": (WHOLE, "test images"),
    "also_in_train": (WHOLE, "test images that the run trained on too, pixel by pixel; NA in earlier versions"),
    "accuracy_without_fixes": (NUMBER, "on the test images as they are; NaN where data.fixes changes none of them"),
    "duplicates": (WHOLE, "test images that are training images too, by data.check_duplicates; NA if none"),
    "accuracy_without": (NUMBER, "on the other test images, share of 1; NaN likewise"),
    "run": (TEXT, "run directory"),
}
PREDICTIONS: Columns = {
    "run": (TEXT, "run directory"),
    "file": (TEXT, "its name below data.root, or its position in the source"),
    "part": (TEXT, "val, or test where the test set was evaluated"),
    "class": (TEXT, "the true one"),
    "predicted": (TEXT, "by the best epoch"),
    "probability": (NUMBER, "of the predicted class, calibrated"),
    "class_probability": (NUMBER, "of the true class, calibrated"),
    "loss": (NUMBER, "cross-entropy without the temperature, nats"),
}
"""Of analysis.predictions, which are read where they are asked for."""


def table(rows: list[dict[str, Any]], columns: Columns) -> pd.DataFrame:
    """A frame of these columns in their dtypes, followed by the other keys of the rows."""
    names = dict.fromkeys(columns)
    for row in rows:
        names |= dict.fromkeys(row)
    frame = pd.DataFrame(rows, columns=list(names))
    for name, (dtype, _) in columns.items():
        frame[name] = _typed(frame[name], dtype)
    return frame


def _typed(values: pd.Series[Any], dtype: str) -> pd.Series[Any]:
    """A column in its dtype; what does not fit (a damaged file) is missing."""
    if dtype == TEXT:
        return values.map(_text).astype(object)
    if dtype.startswith("datetime"):
        return pd.to_datetime(values, errors="coerce", utc="UTC" in dtype, format="ISO8601").astype(dtype)
    if dtype == NUMBER:
        return pd.to_numeric(values, errors="coerce").astype(dtype)
    if dtype == WHOLE:
        return pd.to_numeric(values, errors="coerce").round().astype(dtype)
    return values.astype(dtype)


def _text(value: Any) -> str:
    missing = value is None or value != value  # NaN is not equal to itself
    return "" if missing else str(value)

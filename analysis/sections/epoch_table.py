"""The epochs of one run."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import spelled

from . import Context, Section

ORDER = 150
MEASURES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
LATER_MEASURES = ("val_balanced_accuracy", "val_macro_f1")
"""What runs of earlier versions do not have."""


def section(context: Context) -> Section | None:
    if context.kind != "run":
        return None
    epochs = context.frames.epochs
    columns = {"epoch": epochs.epoch.astype(str)}
    for name in MEASURES:
        columns[spelled(name)] = epochs[name].map("{:.4f}".format)
    for name in LATER_MEASURES:
        if epochs[name].notna().any():
            columns[spelled(name)] = epochs[name].map("{:.4f}".format)
    columns["lr"] = epochs.lr.map("{:.3g}".format)
    columns["seconds"] = epochs.seconds.map("{:.1f}".format)
    return Section("Epoch by epoch", "Losses in nats, accuracies as shares of 1.", table=pd.DataFrame(columns))

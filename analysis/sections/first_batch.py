"""The first batch of training images as the network sees them."""

from __future__ import annotations

from cifar.predictions import BATCH

from ..predictions import examples_of
from . import Context, Picture, Pictures, Section
from .confusion import run_and_name

ORDER = 109


def section(context: Context) -> Section | None:
    run, name = run_and_name(context) if context.best_run else ("", "")
    batches = [example for example in examples_of(run) if example.kind == BATCH] if run else []
    if not batches:
        return None
    text = (
        f"The first training images of {name} as the network sees them: at its size, augmented, before normalization."
    )
    picture = Picture(batches[0].source, "", "examples/batch")
    return Section("First batch", text, pictures=[Pictures("", [picture], wide=True)])

"""The progress of an epoch: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

log = logging.getLogger(__name__)
PROGRESS_INTERVAL = 60.0
"""Seconds between two lines about an epoch that is still running."""
Batch = TypeVar("Batch")


def progress_bar(batches: Iterable[Batch], total: int) -> Iterator[Batch]:
    """Show a bar while the `total` batches are consumed."""
    yield from tqdm(batches, total=total, desc="epoch", unit="batch", leave=False)


def progress_lines(batches: Iterable[Batch], total: int) -> Iterator[Batch]:
    """Log a line every PROGRESS_INTERVAL seconds, so that a long epoch does not look like a run that hangs."""
    start = last_line = time.monotonic()
    for number, batch in enumerate(batches, 1):
        yield batch
        now = time.monotonic()
        if now - last_line > PROGRESS_INTERVAL:
            last_line = now
            log.info("batch %d of %d after %.0f s", number, total, now - start)

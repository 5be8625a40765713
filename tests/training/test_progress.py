"""The progress of an epoch: every batch passes through, and long epochs are logged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import pytest

from cifar.training import progress
from cifar.training.progress import progress_bar, progress_lines


@pytest.mark.parametrize("wrapper", [progress_bar, progress_lines])
def test_every_batch_passes_through(wrapper: Callable[[Iterable[int], int], Iterator[int]]) -> None:
    assert list(wrapper(iter(range(5)), 5)) == [0, 1, 2, 3, 4]


def test_a_short_epoch_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(progress_lines(range(5), 5))
    assert not caplog.messages


def test_a_long_epoch_logs_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL", -1.0)
    list(progress_lines(range(3), 3))
    assert caplog.messages == [f"batch {number} of 3 after 0 s" for number in (1, 2, 3)]

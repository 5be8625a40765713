"""Intervals of differences, compared with published examples."""

from __future__ import annotations

import numpy as np
import pytest

from cifar.intervals import paired_difference


def paired(both: int, before: int, after: int, neither: int) -> tuple[float, float, float]:
    """The interval for so many images that are right both times, only before, only after, and never."""
    counts = [both, before, after, neither]
    return paired_difference(
        np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)
    )


def test_the_paired_interval_is_that_of_the_literature() -> None:
    # Airway hyper-responsiveness (Bentur et al. 2009), Newcombe's interval in Fagerland, Lydersen and Laake, 2014.
    assert paired(1, 7, 1, 12) == pytest.approx((-0.286, -0.507, -0.026), abs=5e-4)
    assert paired(1, 1, 7, 12) == pytest.approx((0.286, 0.026, 0.507), abs=5e-4)


def test_the_paired_interval_of_equal_answers_is_not_a_point() -> None:
    difference, low, high = paired(100, 0, 0, 0)
    assert difference == 0 and low == pytest.approx(-0.037, abs=5e-4) and high == -low
    assert paired(0, 5, 0, 0)[:2] == (-1, -1)


@pytest.mark.parametrize("shares", [(0.8, 0.012, 0.008, 0.18), (0.7, 0.05, 0.05, 0.2)])
def test_the_paired_interval_covers_the_true_difference(shares: tuple[float, ...]) -> None:
    random = np.random.default_rng(0)
    intervals = [paired(*random.multinomial(500, shares)) for _ in range(300)]
    covered = np.mean([low <= shares[2] - shares[1] <= high for _, low, high in intervals])
    assert 0.92 <= covered <= 0.995

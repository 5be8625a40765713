"""The accuracy on the test set."""

from __future__ import annotations

import pandas as pd

from cifar.intervals import SHARE, mean_interval, wilson


def accuracy_on_test(tests: pd.DataFrame) -> pd.DataFrame:
    """look, number, accuracy (mean over seeds), low, high, wilson_low, wilson_high, seeds, images: of one look.

    low and high: Student's interval over the seeds; wilson_low and wilson_high: Wilson's over the images.
    """
    images = int(tests.images.min())
    mean, low, high = mean_interval(tests.accuracy, SHARE)
    wilson_low, wilson_high = wilson(mean, images)
    row = {
        "look": tests["look"].max(),
        "number": tests.number.iloc[0],
        "accuracy": mean,
        "low": low,
        "high": high,
        "wilson_low": wilson_low,
        "wilson_high": wilson_high,
        "seeds": len(tests),
        "images": images,
    }
    return pd.DataFrame([row])

"""Which class is taken for which."""

from __future__ import annotations

import pandas as pd

from cifar.intervals import wilson


def confused(confusion: pd.DataFrame) -> pd.DataFrame:
    """true, predicted, images, share (of the true class), low, high: what is taken for what, most often first.

    `confusion` counts images by true class (index) and predicted class. The interval is Wilson's.
    """
    rows = []
    for true, counts in confusion.iterrows():
        total = int(counts.sum())
        for predicted, count in counts.items():
            if predicted == true or not count:
                continue
            share = count / total
            low, high = wilson(share, total)
            pair = {"true": true, "predicted": predicted, "images": int(count), "share": share}
            rows.append(pair | {"low": low, "high": high})
    pairs = pd.DataFrame(rows, columns=["true", "predicted", "images", "share", "low", "high"])
    return pairs.sort_values(["share", "images"], ascending=False, ignore_index=True)

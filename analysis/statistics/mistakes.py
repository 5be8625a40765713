"""Which images are predicted wrongly, and on how many of the seeds."""

from __future__ import annotations

import pandas as pd


def wrong_by_run(predictions: pd.DataFrame) -> pd.DataFrame:
    """file, part, class, predicted, runs, wrong, same, loss: images that a run or more get wrong, the most often first.

    `predictions`: rows of schema.PREDICTIONS, of runs that differ in their seed. runs: how many predicted the image;
    wrong: how many of these are wrong; predicted: the wrong class that most of them predict, the first by name of
    equals; same: how many predict that; loss: mean over all runs, nats.
    """
    image = ["file", "part", "class"]
    means = predictions.groupby(image, sort=False).agg(runs=("run", "nunique"), loss=("loss", "mean"))
    mistakes = predictions[predictions.predicted != predictions["class"]]
    pairs = mistakes.groupby([*image, "predicted"]).run.nunique().rename("same").reset_index()
    most = pairs.sort_values("same", ascending=False, kind="stable").drop_duplicates(image)
    wrong = mistakes.groupby(image).run.nunique().rename("wrong")
    counts = most.join(wrong, on=image).join(means, on=image)
    order = counts.sort_values(["wrong", "same", "loss"], ascending=False, kind="stable", ignore_index=True)
    return order[[*image, "predicted", "runs", "wrong", "same", "loss"]]

"""Which images are predicted wrongly, and on how many of the seeds."""

from __future__ import annotations

import pandas as pd

LEAST_RUNS = 2
"""Runs that have to agree: one alone says what any list of mistakes says."""


def wrong_by_run(predictions: pd.DataFrame) -> pd.DataFrame:
    """Images that a run or more get wrong, the most often first.

    Columns: file, part, class, predicted, runs, wrong, same, loss, margin. `predictions`: rows of schema.PREDICTIONS,
    of runs that differ in their seed. runs: how many predicted the image; wrong: how many of these are wrong;
    predicted: the wrong class that most of them predict, the first by name of equals; same: how many predict that;
    loss: mean over all runs, nats; margin: by how much a run's predicted class is more probable than the true one,
    likewise.
    """
    image = ["file", "part", "class"]
    judged = predictions.assign(margin=predictions.probability - predictions.class_probability)
    by_image = judged.groupby(image, sort=False)
    means = by_image.agg(runs=("run", "nunique"), loss=("loss", "mean"), margin=("margin", "mean"))
    mistakes = predictions[predictions.predicted != predictions["class"]]
    pairs = mistakes.groupby([*image, "predicted"]).run.nunique().rename("same").reset_index()
    most = pairs.sort_values("same", ascending=False, kind="stable").drop_duplicates(image)
    wrong = mistakes.groupby(image).run.nunique().rename("wrong")
    counts = most.join(wrong, on=image).join(means, on=image)
    order = counts.sort_values(["wrong", "same", "loss"], ascending=False, kind="stable", ignore_index=True)
    return order[[*image, "predicted", "runs", "wrong", "same", "loss", "margin"]]


def alike_on_all_runs(by_run: pd.DataFrame) -> pd.DataFrame:
    """Of wrong_by_run, the images that all runs predict to be the same other class, surest first.

    None where there are not LEAST_RUNS. An image that some run did not predict is not one of these.
    """
    is_alike = (by_run.same == by_run.runs.max()) & (by_run.same >= LEAST_RUNS)
    return by_run[is_alike].sort_values("margin", ascending=False, kind="stable", ignore_index=True)

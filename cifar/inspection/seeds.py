"""Labels that the confirmation of a search makes suspicious: validation images that all fresh seeds get wrong alike.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cifar.inspection.labels import Suspicion

LEAST_RUNS = 2
"""Runs that have to agree: one alone says what any list of mistakes says."""


def wrong_on_all_seeds(tables: Sequence[pd.DataFrame], classes: Sequence[str], part: str = "val") -> list[Suspicion]:
    """The images of `part` that all runs predict to be the same other class, surest first.

    `tables`: the predictions.csv of each run, with the columns file, part, class, predicted, probability,
    class_probability. Only files that all runs judged count. `index` is the row of the first table; `score` is the mean
    probability of the suggested class, over the runs, less that of the label.
    """
    if len(tables) < LEAST_RUNS:
        return []
    first = tables[0].reset_index(drop=True)
    rows = [_of_part(table, part) for table in (first, *tables[1:])]
    shared = rows[0].index
    for each in rows[1:]:
        shared = shared[shared.isin(each.index)]
    rows = [each.loc[shared] for each in rows]
    predicted = np.stack([each["predicted"].to_numpy(str) for each in rows])
    labels = np.stack([each["class"].to_numpy(str) for each in rows])
    margins = np.stack([(each["probability"] - each["class_probability"]).to_numpy(float) for each in rows])
    alike = (predicted == predicted[0]).all(0) & (labels == labels[0]).all(0) & (predicted[0] != labels[0])
    positions = pd.Series(first.index, first["file"].astype(str))[first["part"].to_numpy(str) == part]
    suspicions = [
        Suspicion(int(positions[shared[row]]), classes.index(labels[0, row]), classes.index(predicted[0, row]), score)
        for row, score in zip(np.flatnonzero(alike), margins.mean(0)[alike].tolist(), strict=True)
    ]
    return sorted(suspicions, key=lambda each: -each.score)


def _of_part(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """The rows of a part, by file."""
    chosen = table[table["part"].to_numpy(str) == part]
    return chosen.set_index(chosen["file"].astype(str))

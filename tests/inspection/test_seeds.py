"""Validation images that all runs of a confirmation get wrong in the same way."""

from __future__ import annotations

import pandas as pd

from cifar.inspection.labels import Suspicion
from cifar.inspection.seeds import wrong_on_all_seeds

COLUMNS = ["file", "part", "class", "predicted", "probability", "class_probability"]
CLASSES = ["bird", "cat", "dog"]


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def test_only_what_all_runs_get_wrong_alike_is_listed_surest_first() -> None:
    first = table(
        *[
            ("1", "test", "cat", "dog", 0.9, 0.1),
            ("a", "val", "cat", "dog", 0.7, 0.2),
            ("b", "val", "cat", "cat", 1, 1),
        ],
        *[
            ("c", "val", "cat", "dog", 0.9, 0.1),
            ("d", "val", "dog", "bird", 1.0, 0.0),
            ("e", "val", "dog", "cat", 1, 0),
        ],
    )
    second = table(
        *[
            ("d", "val", "dog", "bird", 0.8, 0.0),
            ("c", "val", "cat", "bird", 0.9, 0.1),
            ("1", "test", "cat", "dog", 1, 0),
        ],
        *[("a", "val", "cat", "dog", 0.5, 0.4), ("b", "val", "cat", "dog", 0.9, 0.1)],  # e was not judged
    )
    suspicions = wrong_on_all_seeds([first, second], CLASSES)
    assert [(each.index, each.label, each.suggested) for each in suspicions] == [(4, 2, 0), (1, 1, 2)]
    assert [round(each.score, 6) for each in suspicions] == [0.9, 0.3]
    assert isinstance(suspicions[0], Suspicion)


def test_one_run_alone_says_nothing() -> None:
    assert wrong_on_all_seeds([table(("a", "val", "cat", "dog", 0.9, 0.1))], CLASSES) == []
    assert wrong_on_all_seeds([], CLASSES) == []

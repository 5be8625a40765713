"""The trials of a confirmation as a table, for the report and for model cards."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from analysis.statistics.candidates import candidates_table


def frames(sign: int, values: list[float], reported: float, limits: tuple[float, float]) -> Any:
    fresh = pd.DataFrame({"number": 4, "reported": sign * reported, "score": [sign * value for value in values]})
    return SimpleNamespace(fresh=fresh, minimizes=sign == -1, score_limits=limits)


def test_a_loss_is_shown_as_it_is_and_too_good_where_it_was_lower() -> None:
    row = candidates_table(frames(-1, [0.01, 0.03], 0.01, (float("-inf"), 0.0))).iloc[0]
    assert (row.trial, row.reported, row["on fresh seeds"], row["too good by"]) == ("4", "0.0100", "0.0200", "+0.0100")
    assert row["95% interval"].startswith("0.0000 ") and "-" not in row["95% interval"]
    row = candidates_table(frames(1, [0.7, 0.9], 0.85, (0.0, 1.0))).iloc[0]
    assert (row.reported, row["on fresh seeds"], row["too good by"]) == ("0.8500", "0.8000", "+0.0500")

"""Which hyperparameters matter."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import format_interval

from .. import figures
from ..evidence import Evidence
from ..statistics.tunability import tunability
from . import Context, Section

ORDER = 40


def section(context: Context) -> Section | None:
    evidence = context.modelled
    if not evidence:
        return None
    rows = evidence.importance
    matter = rows.hyperparameter[rows.verdict == "matters"].tolist()
    text = f"{', '.join(matter)}: shown to matter." if matter else "No hyperparameter is shown to matter yet."
    text += (
        " Share: the part of the score's variance that a hyperparameter explains by itself. Effect on the score: the"
        " difference between its best and its worst value, averaged over the others. Gain from tuning: the difference"
        " between its best value and the middle of its range, with the others in the middle of theirs."
    )
    drawn = {"importance": figures.importance(rows)}
    return Section("Importance", text, drawn, _table(evidence))


def _table(evidence: Evidence) -> pd.DataFrame:
    rows = evidence.importance
    gains = _gains(evidence)
    columns = {
        "hyperparameter": rows.hyperparameter,
        "share": rows.importance.map("{:.0%}".format),
        "95% interval": [format_interval(row.low, row.high, ".0%") for row in rows.itertuples()],
        "effect on the score": rows.effect.map("{:.4f}".format),
        "interval of the effect": [format_interval(row.effect_low, row.effect_high) for row in rows.itertuples()],
        "gain from tuning": [gains.get(name, "") for name in rows.hyperparameter],
        "verdict": rows.verdict,
    }
    return pd.DataFrame(columns)


def _gains(evidence: Evidence) -> dict[str, str]:
    rows = tunability(evidence.space, evidence.surrogate)
    return {row.hyperparameter: f"{row.gain:.4f} ({format_interval(row.low, row.high)})" for row in rows.itertuples()}

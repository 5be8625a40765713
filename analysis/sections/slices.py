"""The scores along each hyperparameter."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from .. import figures
from ..evidence import Evidence
from ..statistics.response import response
from ..trials import LARGEST
from . import Context, Section, file_name

ORDER = 30


def section(context: Context) -> Section | None:
    if not context.evidence:
        return None
    text = (
        "Every trial along each hyperparameter; pruned ones at the last score that they reported, failed ones at the"
        " bottom."
    )
    if context.modelled:
        text += (
            " The band holds the true score with 95% probability, with the other hyperparameters as in the three best"
            " trials."
        )
    return Section("One hyperparameter at a time", text, _figures(context, context.evidence))


def _figures(context: Context, evidence: Evidence) -> dict[str, go.Figure]:
    modelled = context.modelled
    responses = response(modelled.trials, modelled.space, modelled.surrogate) if modelled else None
    drawn: dict[str, go.Figure] = {}
    for _, row in _drawn_rows(evidence).iterrows():
        name = row.hyperparameter
        along = None if responses is None else responses[responses.hyperparameter == name]
        file = f"slice-{file_name(name)}"
        if file in drawn:  # a/b and a.b
            file = f"{file}-{len(drawn)}"
        drawn[file] = figures.slice_of(evidence.trials, row, context.score, along)
    return drawn


def _drawn_rows(evidence: Evidence) -> pd.DataFrame:
    """The hyperparameters that took several values; all, where none did. An axis cannot show ranges beyond 1e100."""
    space = evidence.space
    space = space[~(space.high - space.low >= LARGEST)]
    counts = [evidence.trials[f"params.{key}"].nunique() for key in space.hyperparameter]
    varied = space[[count > 1 for count in counts]]
    return varied if len(varied) else space

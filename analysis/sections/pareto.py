"""The score against the cost of the trials of a study."""

from __future__ import annotations

from .. import figures, scores
from ..statistics.recipes import pareto
from . import Context, Section
from .recipes import has_branches

ORDER = 90


def section(context: Context) -> Section | None:
    if not context.evidence or len(context.evidence.complete) < 2 or has_branches(context.frames):
        return None
    points = scores.trial_scores(context.frames, context.frames.study)
    points = points[points.complete & points.seconds.notna()]
    if points.empty:
        return None
    cost = scores.relevant_cost(points)
    points = points[points[cost].notna()]  # the size of a network is known where its run is at hand
    points = points.assign(cost=points[cost], front=pareto(points.score, points[cost]))
    front = points[points.front].sort_values("cost")
    text = (
        f"{len(front)} of {len(points)} trials are the best for their cost: no other scores higher at the same cost or"
        f" less. The cheapest of them scored {front.score.iloc[0]:.4f}, the most expensive {front.score.iloc[-1]:.4f}."
    )
    return Section("Score and cost", text, {"pareto": figures.pareto(points, context.score, cost)})

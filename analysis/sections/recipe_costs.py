"""Accuracy against cost of the trials of several recipes."""

from __future__ import annotations

from .. import figures
from ..scores import relevant_cost
from ..statistics.recipes import pareto
from . import Context, Section
from .recipes import recipe_scores

ORDER = 75


def section(context: Context) -> Section | None:
    scores = recipe_scores(context)
    if scores is None:
        return None
    cost = relevant_cost(scores)
    complete = scores[scores.complete.to_numpy() & scores[cost].notna().to_numpy()]
    if complete.empty:
        return None
    points = complete.assign(cost=complete[cost], name=complete.recipe, front=pareto(complete.score, complete[cost]))
    names = [str(name) for name in points.recipe[points.front].unique()]
    text = (
        f"The trials that are best for their cost are of {', '.join(names)}: no other scores higher at the same cost"
        " or less."
    )
    drawn = {"recipes-pareto": figures.pareto(points, context.score, cost)}
    return Section("Score and cost of the recipes", text, drawn)

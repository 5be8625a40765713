"""Recipes compared at equal budget: those of several places, or the options that the trials of one study drew."""

from __future__ import annotations

import pandas as pd

from cifar.formatting import count_of, format_count, format_interval

from .. import figures
from ..frames import Frames
from ..scores import relevant_cost, trial_scores
from ..statistics import recipes
from ..statistics.budget import best_of_n
from ..statistics.recipes import improvement
from . import Context, Section

ORDER = 70


def section(context: Context) -> Section | None:
    scores = recipe_scores(context)
    if scores is None:
        return None
    table = recipes.recipes(scores, _costs(scores))
    groups = {str(name): scores.score[scores.recipe == name] for name in scores.recipe.unique()}
    best = table.recipe.iloc[0]
    text = (
        f"With {count_of(table.trials.min(), 'trial')} each, which all recipes have, {best} has the highest expected"
        " best score."
        f" P is the probability that a trial of {best} scores above one of the other, with its 95% interval."
    )
    expected = {name: best_of_n(group) for name, group in groups.items()}
    drawn = {
        "recipes-best-of-n": figures.best_of_n(expected, context.score),
        "recipes-reached": figures.reached(groups, context.score),
    }
    return Section("Recipes compared", text, drawn, _table(table, groups))


def recipe_scores(context: Context) -> pd.DataFrame | None:
    """scores.trial_scores of all recipes; None where there is only one."""
    if context.kind == "several":
        scores = [trial_scores(place.frames, place.name) for place in context.places]
        return pd.concat(scores, ignore_index=True)
    if context.kind == "study" and has_branches(context.frames):
        return trial_scores(context.frames, None)
    return None


def has_branches(frames: Frames) -> bool:
    """Whether the trials of a study drew options that make separate recipes."""
    trials = frames.trials
    return bool(trials.branch[trials.score.notna()].nunique() > 1)


def _costs(scores: pd.DataFrame) -> tuple[str, ...]:
    """The most relevant cost first."""
    first = relevant_cost(scores)
    return (first, *(name for name in figures.COSTS if name != first))


def _table(table: pd.DataFrame, groups: dict[str, pd.Series[float]]) -> pd.DataFrame:
    best = table.recipe.iloc[0]
    wins = ["" if name == best else win_probability(groups[best], groups[name]) for name in table.recipe]
    parameters = ["" if pd.isna(count) else format_count(count) for count in table.parameters]
    columns = {
        "recipe": table.recipe,
        "trials": table.trials.astype(str),
        "best reported": table.best.map("{:.4f}".format),
        "expected at equal budget": table.expected.map("{:.4f}".format),
        f"P({best} wins)": wins,
        "seconds a trial": table.seconds.map("{:.1f}".format),
        "parameters": parameters,
    }
    return pd.DataFrame(columns)


def win_probability(a: pd.Series[float], b: pd.Series[float]) -> str:
    """The probability that a trial of `a` scores above one of `b`, with its interval, as text."""
    row = improvement(a, b).iloc[0]
    return f"{row.probability:.0%} ({format_interval(row.low, row.high, '.0%')})"

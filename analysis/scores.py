"""What trials and runs scored and what they cost, in one frame: for recipes and for accuracy against cost."""

from __future__ import annotations

from html import escape

import pandas as pd

from . import figures
from .frames import Frames
from .statistics.budget import budget_scores


def trial_scores(frames: Frames, recipe: str | None) -> pd.DataFrame:
    """run, score, complete, recipe, hover, parameters, flops, seconds: a row for each trial or run with a score.

    `recipe` names them all; None: each trial's recipe is its branch, the options that it drew.
    """
    scores = _of_study(frames, recipe) if frames.study else _of_runs(frames, recipe)
    runs = frames.runs.set_index("run")
    for cost in ("parameters", "flops"):
        scores[cost] = scores.run.map(runs[cost].astype(float))
    scores["seconds"] = scores.run.map(runs.train_seconds).fillna(scores.trial_seconds)
    return scores


def _of_study(frames: Frames, recipe: str | None) -> pd.DataFrame:
    score = budget_scores(frames.trials)
    trials = frames.trials.loc[score.index]
    if recipe is None:  # without those that failed before they drew their options
        trials = trials[trials.branch != ""]
    return pd.DataFrame(
        {
            "run": trials.run,
            "score": score[trials.index],
            "complete": trials.outcome == "complete",
            "recipe": trials.branch if recipe is None else recipe,
            "hover": figures.hover_texts(trials),
            "trial_seconds": trials.seconds,
        }
    )


def _of_runs(frames: Frames, recipe: str | None) -> pd.DataFrame:
    runs = frames.runs[frames.runs.score.notna()]
    return pd.DataFrame(
        {
            "run": runs.run,
            "score": runs.score,
            "complete": runs.status == "finished",
            "recipe": recipe or "",
            "hover": [escape(run) for run in runs.run],
            "trial_seconds": float("nan"),
        }
    )


def relevant_cost(scores: pd.DataFrame) -> str:
    """The size of the model where it varies, else the training time: one of figures.COSTS."""
    return "parameters" if scores.parameters.nunique() > 1 else "seconds"

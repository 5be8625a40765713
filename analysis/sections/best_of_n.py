"""How many trials are enough."""

from __future__ import annotations

from .. import figures
from ..wording import of_branch
from . import Context, Section

ORDER = 80


def section(context: Context) -> Section | None:
    if not context.evidence:
        return None
    curve = context.evidence.curve
    enough = context.answer.get("enough_trials")
    text = f"The expected best of n trials, drawn at random from the {curve.n.iloc[-1]} trials of this search"
    text += f"{of_branch(context.answer)}."
    if enough:
        text += f" From n = {enough} on, it is within the noise of the best of all trials."
    figure = figures.best_of_n({context.frames.study: curve}, context.score, enough)
    return Section("How many trials are enough", text, {"best-of-n": figure})

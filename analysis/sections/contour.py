"""The estimated score over two hyperparameters."""

from __future__ import annotations

from .. import figures
from ..evidence import Evidence
from ..statistics.places import numbers
from ..statistics.response import surface
from ..trials import LARGEST
from . import Context, Section

ORDER = 50
PREFERRED = ("lr", "weight_decay")


def section(context: Context) -> Section | None:
    evidence = context.modelled
    pair = _pair(evidence) if evidence else []
    if not evidence or len(pair) < 2:
        return None
    x, y = pair
    estimates = surface(evidence.trials, evidence.space, evidence.surrogate, x, y)
    figure = figures.contour(estimates, evidence.trials, evidence.space, x, y, context.score)
    text = f"The estimated score over {x} and {y}, the others as in the three best trials; points are trials."
    return Section("Pairs of hyperparameters", text, {"contour": figure})


def _pair(evidence: Evidence) -> list[str]:
    """Learning rate and weight decay; where these were not searched, the two numbers that matter most."""
    ranges = numbers(evidence.space)
    names = [str(name) for name in ranges.hyperparameter[ranges.high - ranges.low < LARGEST]]
    preferred = [name for end in PREFERRED for name in names if name.rpartition(".")[2] == end]
    by_importance = [name for name in evidence.importance.hyperparameter if name in names]
    return preferred if len(preferred) == len(PREFERRED) else by_importance[:2]

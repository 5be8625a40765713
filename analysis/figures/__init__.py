"""Figures: frames of analysis.frames and analysis.statistics as plotly figures. Nothing is computed here.

theme.py            colours, template, axis titles, the text under the mouse
epochs.py           learning curves: measures by epoch
hyperparameters.py  scores by hyperparameter: slices, importance, contour, parallel coordinates
comparison.py       best of n trials, distribution of scores, accuracy against cost
workers.py          the workers over time
matrix.py           the confusion matrix
"""

from .comparison import best_of_n, pareto, reached
from .epochs import both, curves, learning
from .hyperparameters import contour, importance, parallel, slice_of
from .matrix import confusion
from .theme import COSTS, MEASURES, OUTCOMES, SERIES, TEMPLATE, hover_texts, measure
from .workers import timeline

__all__ = [
    "COSTS",
    "MEASURES",
    "OUTCOMES",
    "SERIES",
    "TEMPLATE",
    "best_of_n",
    "both",
    "confusion",
    "contour",
    "curves",
    "hover_texts",
    "importance",
    "learning",
    "measure",
    "parallel",
    "pareto",
    "reached",
    "slice_of",
    "timeline",
]

"""The report of several searches, grids or runs, compared; each is a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cifar.commands import command, override
from cifar.files import best_trial_file
from cifar.formatting import count_of, format_interval, format_value
from cifar.intervals import clipped, mean_interval

from .. import figures
from ..answer import settings_of
from ..evidence import Evidence
from ..frames import Frames, FramesError
from ..scores import trial_scores
from ..sections import Context, Place, sections_of
from ..sections.recipes import win_probability
from ..sections.run_table import best_first
from ..statistics.curse import winners_curse
from ..statistics.model import StatisticsError
from ..statistics.recipes import improvement
from . import folds
from .base import Fact, Report, architecture_facts, command_of, is_running, time_fact, total_seconds
from .settings import grid_settings


@dataclass(frozen=True)
class Best:
    """The best trial or run of a place, and the estimate of its score with its interval."""

    place: Place
    name: str
    run: str
    reported: float
    estimate: float
    interval: str = "uncertainty not known"
    settings: str = ""


def report_of(places: Sequence[Frames]) -> Report:
    """Raises FramesError where the scores of the places differ in what they measure."""
    named = _named(places)
    sizes = [f"{place.name}: {_size(place.frames)}" for place in named]
    title = " · ".join(place.name for place in named)
    report = Report(title, "comparison", ", ".join(sizes), any(map(is_running, places)))
    usable = [place for place in named if len(trial_scores(place.frames, place.name))]
    if not usable:
        return replace(report, problem="Nothing is complete in any of them, so nothing can be said yet.")
    score = _common_measure(usable)
    ranking = sorted((_best_of(place) for place in usable), key=lambda best: -best.estimate)
    best = ranking[0]
    frames = best.place.frames
    ranked_places = [row.place for row in ranking]
    seconds = sum(total_seconds(place.frames) for place in usable)
    return replace(
        report,
        facts=[
            _score_fact(score, best),
            *architecture_facts(frames.runs[frames.runs.run == best.run]),
            time_fact(seconds, "all together"),
        ],
        table_title="What was compared",
        table=_ranking_table(ranking, score),
        wide_table=True,
        command=_command(best),
        next_steps=_next_steps(ranked_places),
        sections=sections_of(Context("several", ranked_places, best.run)),
        best_yaml=best_trial_file(Path(frames.place)),
    )


def _command(best: Best) -> str:
    """What trains the best: that of its study, or its run, without folds where it is one of several folds."""
    frames = best.place.frames
    if best_trial_file(Path(frames.place)):
        return command(override("from_study", frames.place))
    is_of_folds = not frames.study and folds.has_folds(frames.runs)
    return command_of(best.run, folds.WITHOUT if is_of_folds else ())


def _named(places: Sequence[Frames]) -> list[Place]:
    """Each place with a name; equal names are numbered."""
    names = [frames.study or frames.place for frames in places]
    named = []
    for index, (name, frames) in enumerate(zip(names, places, strict=True), 1):
        repeated = names.count(name) > 1
        named.append(Place(f"{name} ({names[:index].count(name)})" if repeated else name, frames))
    return named


def _size(frames: Frames) -> str:
    return count_of(len(frames.trials), "trial") if frames.study else count_of(len(frames.runs), "run")


def _common_measure(places: Sequence[Place]) -> str:
    measures = {figures.measure(place.frames) for place in places}
    if len(measures) > 1:
        where = ", ".join(place.frames.place for place in places)
        raise FramesError(f"{where}: {' and '.join(sorted(measures))} cannot be compared")
    return measures.pop()


def _best_of(place: Place) -> Best:
    evidence = Evidence(place.frames)
    if not place.frames.study and folds.has_folds(place.frames.runs):
        return _best_over_folds(place)
    if not place.frames.study or evidence.complete.empty:
        scores = trial_scores(place.frames, place.name)
        first = scores.sort_values("score", ascending=False).iloc[0]
        return Best(place, Path(first.run).name, first.run, first.score, first.score)
    winner = evidence.winner
    settings = " ".join(f"{key}={format_value(value)}" for key, value in settings_of(winner).items())
    best = Best(place, f"trial {winner.number}", winner.run, winner.score, winner.score, settings=settings)
    try:
        curse = winners_curse(evidence.top).iloc[0]
    except StatisticsError:
        return best
    limits = place.frames.score_limits
    interval = format_interval(*clipped(curse.reported - curse.high, curse.reported - curse.low, limits))
    return replace(best, estimate=curse.estimate, interval=interval)


def _best_over_folds(place: Place) -> Best:
    """The best setting of a grid of folds, by its mean over these."""
    setting = grid_settings(best_first(place.frames.runs))[0]
    mean, low, high = mean_interval(setting.scores, place.frames.score_limits)
    name = f"mean over {folds.folds_text(setting.runs)}"
    interval = format_interval(low, high, missing="no interval from one fold")
    return Best(place, name, setting.runs.run.iloc[0], mean, mean, interval, setting.text)


def _score_fact(score: str, best: Best) -> Fact:
    note = f"{best.interval} · {best.place.name}, {best.name}"
    return Fact(f"best {score}, estimated", f"{best.estimate:.4f}", note)


def _ranking_table(ranking: list[Best], score: str) -> pd.DataFrame:
    rows = [
        {
            "recipe": best.place.name,
            "best": best.name,
            "reported": f"{best.reported:.4f}",
            f"estimated {score}": f"{best.estimate:.4f}",
            "95% interval": best.interval,
            "settings": best.settings,
        }
        for best in ranking
    ]
    return pd.DataFrame(rows)


def _next_steps(places: list[Place]) -> list[str]:
    """What the comparison shows, and how to make it fairer; `places` are ordered, best first."""
    steps = []
    groups = {place.name: trial_scores(place.frames, place.name).score for place in places}
    first, *others = groups
    for other in others[:2]:
        wins = win_probability(groups[first], groups[other])
        verdict = _verdict(groups[first], groups[other])
        steps.append(f"A trial of {first} scores above one of {other} in {wins}: {verdict}.")
    fewest = min(groups, key=lambda name: len(groups[name]))
    most = max(map(len, groups.values()))
    if len(groups[fewest]) < most:
        sizes = f"{fewest} has {count_of(len(groups[fewest]), 'trial')} and another {most}"
        steps.append(f"{sizes}: before you drop a recipe, give all the same number of trials.")
    if _differ_in_images(places):
        steps.append("They were validated on different images: the scores cannot be compared.")
    return steps


def _differ_in_images(places: list[Place]) -> bool:
    """Whether the runs were validated on different images; those of grids of folds are compared fold by fold."""
    splits = [set(place.frames.runs.val_fingerprint) - {""} for place in places]
    if all(folds.has_folds(place.frames.runs) for place in places):
        return any(split != splits[0] for split in splits)
    return len(set().union(*splits)) > 1


def _verdict(first: pd.Series[float], other: pd.Series[float]) -> str:
    row = improvement(first, other).iloc[0]
    if row.low > 0.5:
        return "it is better"
    return "it is worse" if row.high < 0.5 else "they are statistically tied"

"""The report of several searches, grids or runs, compared; each is a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cifar.commands import command, override

from .. import figures
from ..answer import settings_of
from ..evidence import Evidence
from ..formatting import format_interval, format_value
from ..frames import Frames, FramesError
from ..scores import trial_scores
from ..sections import Context, Place, sections_of
from ..sections.recipes import win_probability
from ..statistics.curse import winners_curse
from ..statistics.model import StatisticsError
from ..statistics.recipes import improvement
from .base import Fact, Report, architecture_facts, best_yaml, command_of, is_running, time_fact


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
    seconds = sum(place.frames.runs.train_seconds.sum() for place in usable)
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
        command=command(override("from_study", frames.place)) if best_yaml(frames) else command_of(best.run),
        next_steps=_next_steps(ranked_places),
        sections=sections_of(Context("several", ranked_places, best.run)),
        best_yaml=best_yaml(frames),
    )


def _named(places: Sequence[Frames]) -> list[Place]:
    """Each place with a name; equal names are numbered."""
    names = [frames.study or frames.place for frames in places]
    named = []
    for index, (name, frames) in enumerate(zip(names, places, strict=True), 1):
        repeated = names.count(name) > 1
        named.append(Place(f"{name} ({names[:index].count(name)})" if repeated else name, frames))
    return named


def _size(frames: Frames) -> str:
    return f"{len(frames.trials)} trials" if frames.study else f"{len(frames.runs)} runs"


def _common_measure(places: Sequence[Place]) -> str:
    measures = {figures.measure(place.frames) for place in places}
    if len(measures) > 1:
        where = ", ".join(place.frames.place for place in places)
        raise FramesError(f"{where}: {' and '.join(sorted(measures))} cannot be compared")
    return measures.pop()


def _best_of(place: Place) -> Best:
    evidence = Evidence(place.frames)
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
    interval = format_interval(curse.reported - curse.high, curse.reported - curse.low)
    return replace(best, estimate=curse.estimate, interval=interval)


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
        sizes = f"{fewest} has {len(groups[fewest])} trials and another {most}"
        steps.append(f"{sizes}: before you drop a recipe, give all the same number of trials.")
    splits = {fingerprint for place in places for fingerprint in place.frames.runs.val_fingerprint if fingerprint}
    if len(splits) > 1:
        steps.append("They were validated on different images: the scores cannot be compared.")
    return steps


def _verdict(first: pd.Series[float], other: pd.Series[float]) -> str:
    row = improvement(first, other).iloc[0]
    if row.low > 0.5:
        return "it is better"
    return "it is worse" if row.high < 0.5 else "they are statistically tied"

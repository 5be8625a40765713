"""What a report says and shows: of a study, of runs, of several sweeps. Every number is from statistics or summary.

A Report is plain texts, tables and figures; analysis.report writes it as a page and as Markdown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from . import figures, summary
from .architecture import architecture, model_name, model_settings
from .formatting import as_whole, format_count, format_duration, format_interval, format_value
from .frames import Frames, FramesError
from .statistics.budget import best_of_n, budget_scores
from .statistics.confusion import confused
from .statistics.curse import measured_curse, winners_curse
from .statistics.failures import failures
from .statistics.intervals import mean_interval, wilson
from .statistics.learning import diagnosis
from .statistics.model import StatisticsError
from .statistics.noise import noise_floor
from .statistics.recipes import improvement, pareto, recipes
from .statistics.response import response, surface
from .statistics.tunability import tunability
from .summary import Evidence

TABLE = 10
"""Rows of a table, at most."""


@dataclass(frozen=True)
class Fact:
    """One of the first things to see: what it is, how much, and how sure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """`says` is a sentence or a few; figures are by the name of their file; the table is of texts."""

    title: str
    says: str
    figures: dict[str, go.Figure] = field(default_factory=dict)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class Report:
    """`best_yaml` is the file that trains the best, None where there is none; `problem` says why there is no answer."""

    title: str
    kind: str
    counted: str
    running: bool
    facts: list[Fact] = field(default_factory=list)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    command: str = ""
    next: list[str] = field(default_factory=list)
    problem: str = ""
    sections: list[Section] = field(default_factory=list)
    best_yaml: Path | None = None


def report_of(places: Sequence[Frames]) -> Report:
    """The report of what was read. Raises FramesError for what has none."""
    if len(places) > 1:
        return of_several(places)
    return of_study(places[0]) if places[0].study else of_runs(places[0])


def of_study(frames: Frames) -> Report:
    """Of one search, in whatever state it is."""
    evidence = Evidence(frames)
    found = summary.summarize(frames, evidence)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in found["trials"].items()) or "no trials yet"
    report = Report(frames.study, "hyperparameter search", counted, is_running(frames))
    sections = [section for section in _study_sections(frames, evidence, found) if section]
    if "best" not in found:
        reason = f" The first reason: {found['reason']}" if found.get("reason") else ""
        return replace(report, sections=sections, problem=f"No trial is complete, so nothing can be said yet.{reason}")
    steps = [f"how sure that is cannot be said: {found['unknown']}"] if "unknown" in found else summary.advice(found)
    return replace(
        report,
        facts=_facts(frames, found),
        table=_best_settings(found, evidence.space),
        command=found.get("command", ""),
        next=[_sentence(step) for step in steps],
        sections=sections,
        best_yaml=_best_yaml(frames),
    )


def _best_yaml(frames: Frames) -> Path | None:
    """What from_study= reads: of the confirmed trial, else of the best; None where there is neither."""
    paths = (Path(frames.place) / name for name in ("confirmed.yaml", "best.yaml"))
    return next((path for path in paths if path.exists()), None)


def is_running(frames: Frames) -> bool:
    """Whether trials or runs are under way, or still to come."""
    states = frames.trials.state.isin(["RUNNING", "WAITING"]) if frames.study else frames.runs.status == "running"
    return bool(states.any()) or bool(frames.study and frames.trials.empty)


def _sentence(line: str) -> str:
    """With a capital, unless it begins with a name, and a full stop."""
    first = line.split(" ")[0]
    return (line[0].upper() + line[1:] if first.isalpha() else line) + ("" if line.endswith(".") else ".")


def _facts(frames: Frames, found: dict[str, Any]) -> list[Fact]:
    """The score and how sure it is, test accuracy if confirmed, noise, architecture, effort."""
    best, name = found["best"], figures.measure(frames).replace("negated ", "")
    reported = f"trial {best['trial']}, reported {best['value']:.4f}"
    confirmed, true = found.get("confirmed"), found.get("truly")
    if confirmed:
        note = f"{format_interval(confirmed['low'], confirmed['high'])} (95%) · {reported}"
        facts = [Fact(f"{name}, mean of {confirmed['seeds']} fresh seeds", f"{confirmed['mean']:.4f}", note)]
    elif true:
        note = f"{format_interval(true['low'], true['high'])} (95%) · {reported}"
        facts = [Fact(f"{name}, estimated", f"{true['mean']:.4f}", note)]
    else:
        facts = [Fact(f"{name}, reported", f"{best['value']:.4f}", f"trial {best['trial']} · how sure is not known")]
    facts += _test_accuracy((confirmed or {}).get("test"), len(frames.runs) > 0)
    if "noise" in found:
        source = "by the search and its fresh seeds" if confirmed else "estimated from the search"
        facts.append(Fact("from seed to seed", f"{found['noise']:.4f}", f"s.d. of one trial, {source}"))
    facts += _architecture(frames.runs[frames.runs.run == best["run"]])
    seconds = frames.runs.train_seconds.sum() or frames.trials.seconds.sum()
    return [*facts, Fact("time of training", format_duration(seconds), "of all trials together")]


def _test_accuracy(test: dict[str, Any] | None, ours: bool) -> list[Fact]:
    if test:
        looks = f" · looked at {test['look']} times, so no longer unseen" if test["look"] > 1 else ""
        interval = format_interval(test["wilson_low"], test["wilson_high"])
        return [Fact("test accuracy", f"{test['accuracy']:.4f}", f"{interval} · {test['images']:.0f} images{looks}")]
    return [Fact("test accuracy", "not looked at", "a search never reads test images")] if ours else []


def _architecture(runs: pd.DataFrame) -> list[Fact]:
    """Of the model of the first of the runs: its name and shape, its size and cost; nothing where it is not known."""
    model = architecture(runs)
    if "parameters" not in model:
        return []
    shape = " ".join(f"{key}={format_value(as_whole(value))}" for key, value in model_settings(model).items())
    size = f"{format_count(model['parameters'])} parameters"
    cost = f" · {format_count(model['flops'])}FLOP an image" if "flops" in model else ""
    return [Fact("architecture", model_name(model) or "model", " · ".join(filter(None, [shape, size])) + cost)]


def _best_settings(found: dict[str, Any], space: pd.DataFrame) -> pd.DataFrame:
    """hyperparameter, best, searched, and what is known of both."""
    ranges = {row.hyperparameter: _range(row) for row in space.itertuples()}
    importance = {row["hyperparameter"]: row for row in found.get("importance", [])}
    rows = []
    for key, value in found["best"]["hyperparameters"].items():
        row = {"hyperparameter": key, "best": format_value(value)}
        if importance:
            row["matters"] = _matters(importance[key]) if key in importance else ""
            row["best lies"] = _place([b for b in found["boundaries"] if b["hyperparameter"] == key])
        rows.append(row | {"searched": ranges.get(key, "")})
    return pd.DataFrame(rows)


def _range(row: Any) -> str:
    if row.kind == "choice":
        return ", ".join(map(str, row.choices))
    return f"{row.low:.4g} to {row.high:.4g}{', log' if row.log else ''}"


def _matters(row: dict[str, Any]) -> str:
    return f"yes, {row['importance']:.0%}" if row["verdict"] == "matters" else "not shown"


def _place(sides: list[dict[str, Any]]) -> str:
    edges = [b["side"] for b in sides if b["verdict"] == "edge"]
    if edges:
        return f"at the {' and '.join(edges)} end"
    return "inside" if sides and all(b["verdict"] == "inside" for b in sides) else "not clear" if sides else ""


def _study_sections(frames: Frames, evidence: Evidence, found: dict[str, Any]) -> list[Section | None]:
    sure = evidence if "importance" in found else None
    several = frames.trials.branch[frames.trials.score.notna()].nunique() > 1
    return [
        _confirmation(frames),
        learning_section(frames, found["best"]["run"] if "best" in found else ""),
        _slices(frames, evidence, sure) if "best" in found else None,
        _importance(sure) if sure else None,
        _contour(frames, sure) if sure else None,
        _parallel(frames) if len(evidence.complete) > 1 else None,
        *(_recipes([(frames, "branch")], figures.measure(frames)) if several else []),
        _best_of_n(frames, evidence, found) if "best" in found else None,
        _pareto(frames) if len(evidence.complete) > 1 and not several else None,
        _confusion(frames, found) if "best" in found else None,
        _timeline(frames),
        _ranking(evidence) if sure else None,
        _failures(frames),
    ]


def _confirmation(frames: Frames) -> Section | None:
    if frames.fresh.empty:
        return None
    found = measured_curse(frames.fresh)
    rows = {
        "trial": found.number,
        "reported": found.reported.map("{:.4f}".format),
        "on fresh seeds": found.estimate.map("{:.4f}".format),
        "95% interval": [format_interval(r.reported - r.high, r.reported - r.low) for r in found.itertuples()],
        "too high by": found.curse.map("{:+.4f}".format),
        "seeds": found.seeds,
    }
    says = "The best trials, trained again on fresh seeds: what they reported holds the luck of having been chosen."
    for floor in noise_floor(frames.fresh.rename(columns={"number": "group"})).itertuples():
        between = format_interval(floor.low, floor.high)
        says += f" Runs that differ by seed alone differ by {floor.sd:.4f} (s.d., {between})."
    return Section("Confirmed on fresh seeds", says, table=pd.DataFrame(rows).astype(str))


def learning_section(frames: Frames, winner: str = "") -> Section | None:
    """Learning and generalization curves of all runs, and what can be seen in them; `winner` is the run to tell of."""
    epochs = figures.curves(frames)
    if epochs.empty:
        return None
    ended = epochs[epochs.outcome == "complete"]
    learned = diagnosis(ended if len(ended) else epochs)
    best = [winner] if winner else epochs.run[epochs["rank"] == 1].iloc[:1]
    own = learned[learned.run.isin(best)]
    counted = f"Still improving at the end: {learned.improving.sum()} of {len(learned)} runs;"
    counted += f" overfitted: {learned.overfitting.sum()}; diverged: {learned.diverged.sum()}."
    says = (
        f"{epochs.name[epochs.run.isin(best)].iloc[0].capitalize()}: {learned_text(own.iloc[0])} {counted}"
        if len(own)
        else counted
    )
    drawn = {_file(y): figures.learning(epochs, y) for y in figures.MEASURES}
    return Section("Learning and generalization", says, drawn)


def learned_text(row: pd.Series[Any]) -> str:
    """A row of statistics.diagnosis in words."""
    if row.diverged:
        return "it diverged; a smaller learning rate is the first thing to try."
    told = "it was still improving at the end: more epochs may help" if row.improving else "it had stopped improving"
    told += "; it overfitted after that" if row.overfitting else "; it did not overfit"
    times = {0: "stayed", 1: "dropped once", 2: "dropped twice"}.get(row.lr_drops, f"dropped {row.lr_drops} times")
    return f"best in epoch {row.best_epoch}; {told}; its learning rate {times}."


def _slices(frames: Frames, evidence: Evidence, sure: Evidence | None) -> Section:
    responses = response(sure.trials, sure.space, sure.surrogate) if sure else None
    drawn = {}
    varied = [evidence.trials[f"params.{key}"].nunique() > 1 for key in evidence.space.hyperparameter]
    for _, row in evidence.space[varied].iterrows() if any(varied) else evidence.space.iterrows():
        own = None if responses is None else responses[responses.hyperparameter == row.hyperparameter]
        figure = figures.slice_of(evidence.trials, row, figures.measure(frames), own)
        drawn[f"slice-{_file(row.hyperparameter)}"] = figure
    says = "Every trial along each hyperparameter; pruned ones at what they reported last, failed ones at the bottom."
    if sure:
        says += " The band is where the true score lies with 95% probability, the others as in the three best trials."
    return Section("One hyperparameter at a time", says, drawn)


def _file(name: str) -> str:
    """As part of a file's name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)


def _importance(evidence: Evidence) -> Section:
    found = evidence.importance
    matter = found.hyperparameter[found.verdict == "matters"].tolist()
    says = f"{', '.join(matter)}: shown to matter." if matter else "No hyperparameter is shown to matter yet."
    says += " The share of the score's variance that each makes by itself, with 95% intervals; what the score moves by"
    says += " is between its best and its worst value, the others averaged; what tuning is worth is what the best value"
    says += " gains over the middle of the range, the others in the middle of theirs."
    gain = tunability(evidence.space, evidence.surrogate).set_index("hyperparameter")
    worth = {str(name): f"{r.gain:.4f} ({format_interval(r.low, r.high)})" for name, r in gain.iterrows()}
    rows = {
        "hyperparameter": found.hyperparameter,
        "share": found.importance.map("{:.0%}".format),
        "95% interval": [format_interval(r.low, r.high, ".0%") for r in found.itertuples()],
        "score moves by": found.effect.map("{:.4f}".format),
        "its interval": [format_interval(r.effect_low, r.effect_high) for r in found.itertuples()],
        "tuning is worth": found.hyperparameter.map(lambda name: worth.get(name, "")),
        "verdict": found.verdict,
    }
    return Section("What matters", says, {"importance": figures.importance(found)}, pd.DataFrame(rows))


def _contour(frames: Frames, evidence: Evidence) -> Section | None:
    """Of learning rate and weight decay; where these were not searched, of the two that matter most."""
    space = evidence.space
    numbers = space.hyperparameter[(space.kind == "number") & (space.high > space.low)].tolist()
    by_importance = [name for name in evidence.importance.hyperparameter if name in numbers]
    named = [next((n for n in numbers if n.rpartition(".")[2] == end), None) for end in ("lr", "weight_decay")]
    pair = [name for name in named if name] if all(named) else by_importance[:2]
    if len(pair) < 2:
        return None
    x, y = pair
    estimates = surface(evidence.trials, space, evidence.surrogate, x, y)
    figure = figures.contour(estimates, evidence.trials, space, x, y, figures.measure(frames))
    says = f"The estimated score over {x} and {y}, the others as in the three best trials; points are trials."
    return Section("Two at a time", says, {"contour": figure})


def _parallel(frames: Frames) -> Section:
    figure = figures.parallel(frames.trials, frames.spaces, figures.measure(frames))
    return Section("All at once", "A line for each complete trial; the best are blue.", {"parallel": figure})


def _best_of_n(frames: Frames, evidence: Evidence, found: dict[str, Any]) -> Section:
    enough, done = found.get("enough_trials"), int(evidence.curve.n.iloc[-1])
    says = f"What the best of so many random ones of the {done} trials would have been, on average."
    if enough:
        says += f" {enough} of them come within the noise of one trial of the best of all."
    figure = figures.best_of_n({frames.study: evidence.curve}, figures.measure(frames), enough)
    return Section("How many trials", says, {"best-of-n": figure})


def _pareto(frames: Frames) -> Section | None:
    found = scores(frames, frames.study)
    points = found[found.complete & found.seconds.notna()]
    if points.empty:
        return None
    cost = _cost(points)
    points = points.assign(cost=points[cost], front=pareto(points.score, points[cost]))
    front = points[points.front].sort_values("cost")
    says = f"{len(front)} of {len(points)} trials are the best for what they cost; the cheapest of them scored"
    says += f" {front.score.iloc[0]:.4f}, the dearest {front.score.iloc[-1]:.4f}."
    return Section("Accuracy and cost", says, {"pareto": figures.pareto(points, figures.measure(frames), cost)})


def _cost(points: pd.DataFrame) -> str:
    """The size of the model where it varies, else the time."""
    return "parameters" if points.parameters.nunique() > 1 else "seconds"


def scores(frames: Frames, recipe: str) -> pd.DataFrame:
    """recipe, score, parameters, flops, seconds, complete, about: a row for each trial or run that is worth something.

    `recipe` is one name for all, or "branch", for the options that each trial drew.
    """
    runs = frames.runs.set_index("run")
    if not frames.study:
        own = frames.runs[frames.runs.val_accuracy.notna()]
        found = pd.DataFrame({"run": own.run, "score": own.val_accuracy, "complete": own.status == "finished"})
        found = found.assign(recipe=recipe, about=[escape(run) for run in own.run], own_seconds=float("nan"))
    else:
        score = budget_scores(frames.trials)
        own = frames.trials.loc[score.index]
        found = pd.DataFrame({"run": own.run, "score": score, "complete": own.outcome == "complete"})
        names = own.branch if recipe == "branch" else recipe
        found = found.assign(recipe=names, about=figures.about(own), own_seconds=own.seconds)
    for cost in ("parameters", "flops"):
        found[cost] = found.run.map(runs[cost].astype(float))
    found["seconds"] = found.run.map(runs.train_seconds).fillna(found.own_seconds)
    return found


def _recipes(places: Sequence[tuple[Frames, str]], score: str) -> list[Section]:
    """Recipes against one another, at the budget of the one with the fewest trials. Places with their recipe's name."""
    found = pd.concat([scores(frames, recipe) for frames, recipe in places], ignore_index=True)
    cost = _cost(found)
    table = recipes(found, (cost, *(name for name in figures.COSTS if name != cost)))
    groups = {str(name): found.score[found.recipe == name] for name in dict.fromkeys(found.recipe)}
    best = table.recipe.iloc[0]
    rows = {
        "recipe": table.recipe,
        "trials": table.trials.astype(str),
        "best reported": table.best.map("{:.4f}".format),
        "expected at equal budget": table.expected.map("{:.4f}".format),
        f"P({best} wins)": [_wins(groups[best], groups[name]) if name != best else "" for name in table.recipe],
        "seconds a trial": table.seconds.map("{:.1f}".format),
        "parameters": table.parameters.map(lambda n: format_count(n) if pd.notna(n) else ""),
    }
    fewest = int(table.trials.min())
    says = f"Best of {fewest} trials each, which all recipes have: {best} expects the most."
    says += f" P is the probability that a trial of {best} scores above one of the other, with its 95% interval."
    points = found.rename(columns={cost: "cost"})[found.complete.to_numpy()]
    points = points.assign(front=pareto(points.score, points.cost), name=points.recipe)
    lines = {name: best_of_n(own) for name, own in groups.items()}
    compared = {
        "recipes-best-of-n": figures.best_of_n(lines, score),
        "recipes-reached": figures.reached(groups, score),
    }
    cheap = [str(name) for name in dict.fromkeys(points.recipe[points.front])]
    return [
        Section("Recipes compared", says, compared, pd.DataFrame(rows)),
        Section(
            "Accuracy and cost of the recipes",
            f"Best for what they cost: trials of {', '.join(cheap)}.",
            {"recipes-pareto": figures.pareto(points, score, cost)},
        ),
    ]


def _wins(a: pd.Series[float], b: pd.Series[float]) -> str:
    row = improvement(a, b).iloc[0]
    return f"{row.probability:.0%} ({format_interval(row.low, row.high, '.0%')})"


def confusion_of(run: str) -> pd.DataFrame | None:
    """The counts of a run's confusion.csv; None where there is none that can be read."""
    try:
        return pd.read_csv(Path(run) / "confusion.csv", dtype={0: str}).set_index("true \\ predicted").astype(int)
    except (OSError, ValueError, KeyError):
        return None


def _confusion(frames: Frames, found: dict[str, Any]) -> Section | None:
    """Of the confirmed winner, else of the best trial."""
    run, whose = found["best"]["run"], f"trial {found['best']['trial']}, the best reported"
    if confirmed := found.get("confirmed"):
        runs = frames.fresh[frames.fresh.number == confirmed["trial"]]
        run, whose = runs.run.iloc[0], f"trial {confirmed['trial']}, the confirmed winner, on seed {runs.seed.iloc[0]}"
    return confusion_section(run, whose)


def confusion_section(run: str, whose: str) -> Section | None:
    """The matrix of a run, and the worst-confused pairs."""
    counts = confusion_of(run)
    if counts is None:
        return None
    pairs = confused(counts).head(5)
    rows = {
        "true": pairs["true"],
        "taken for": pairs.predicted,
        "images": pairs.images.astype(str),
        "share": pairs.share.map("{:.1%}".format),
        "95% interval": [format_interval(r.low, r.high, ".1%") for r in pairs.itertuples()],
    }
    says = f"Validation images of {whose}, after its best epoch."
    if len(pairs):
        first = pairs.iloc[0]
        says += f" Most often {first.true} is taken for {first.predicted}: {first.share:.0%} of its images."
    return Section("What is confused with what", says, {"confusion": figures.confusion(counts)}, pd.DataFrame(rows))


def _timeline(frames: Frames) -> Section | None:
    own = frames.trials[frames.trials.started.notna()]
    if own.empty:
        return None
    workers = own.worker[own.worker != ""].nunique() or 1
    says = f"{len(own)} trials on {workers} worker{'s' if workers > 1 else ''}; gaps are time in which one idled."
    return Section("Who did what when", says, {"timeline": figures.timeline(own)})


def _ranking(evidence: Evidence) -> Section:
    """The best trials with what is believed of each."""
    top = evidence.top.head(TABLE)
    settings = evidence.trials.set_index("number").loc[top.number]
    rows = {
        "trial": top.number.astype(str),
        "reported": top.score.map("{:.4f}".format),
        "estimate": top.estimate.map("{:.4f}".format),
        "95% interval": [format_interval(r.low, r.high) for r in top.itertuples()],
        "P(best)": top.best.map("{:.0%}".format),
    }
    for key in evidence.space.hyperparameter:
        rows[key] = [format_value(value) for value in settings[f"params.{key}"]]
    tied = int(evidence.top.tied.sum())
    says = f"{tied} of {len(evidence.top)} complete trials cannot be told from the best." if tied > 1 else ""
    return Section("The best trials", says or "The best can be told from all others.", table=pd.DataFrame(rows))


def _failures(frames: Frames) -> Section | None:
    lost = frames.trials[(frames.trials.state == "FAIL") & (frames.trials.outcome != "withdrawn")]
    if lost.empty:
        return None
    rates = [column for column in lost.columns if str(column).endswith(".lr") or column == "params.lr"]
    found = failures(frames.trials, str(rates[0]).removeprefix("params.")) if rates else pd.DataFrame()
    worst = found.nlargest(1, "share") if len(found) else found
    says = f"{len(lost)} trials failed, diverged or were lost."
    if len(worst) and worst.share.iloc[0] > 0:
        row = worst.iloc[0]
        says += f" Most fail with a learning rate from {row.decade:g} to {10 * row.decade:g}: {row.failed:.0f} of"
        says += f" {row.trials:.0f} ({format_interval(row.low, row.high, '.0%')})."
    shown = lost.head(TABLE)
    rows = {"trial": shown.number.astype(str), "outcome": shown.outcome, "reason": shown.reason, "folder": shown.run}
    return Section("What failed", says, table=pd.DataFrame(rows))


def of_runs(frames: Frames) -> Report:
    """Of a run, or of a grid or a folder of them."""
    if len(frames.runs) == 1:
        return _of_run(frames)
    runs = frames.runs.sort_values("val_accuracy", ascending=False)
    counted = ", ".join(f"{n} {status or 'unknown'}" for status, n in runs.status.value_counts().items())
    report = Report(frames.place, f"{len(runs)} runs", counted, is_running(frames))
    best = runs.iloc[0]
    if pd.isna(best.val_accuracy):
        return replace(report, problem="No run has finished an epoch, so nothing can be said yet.")
    keys = [
        str(column)
        for column in runs
        if str(column).startswith("config.") and runs[column].astype(str).nunique() > 1 and column != "config.resume"
    ]
    settings = [key for key in keys if key != "config.seed"]
    floor = noise_floor(_by_setting(runs, settings))
    facts = [
        _accuracy(best),
        *_architecture(runs.head(1)),
        Fact("time of training", format_duration(runs.train_seconds.sum())),
    ]
    if len(floor):
        row = floor.iloc[0]
        note = f"s.d. · {format_interval(row.low, row.high)} · {row.df:.0f} degrees of freedom"
        facts.insert(1, Fact("from seed to seed", f"{row.sd:.4f}", note))
    sections = [
        learning_section(frames),
        confusion_section(best.run, f"{Path(best.run).name}, the best run"),
        _all_runs(runs, keys),
    ]
    return replace(
        report,
        facts=facts,
        table=_by_settings_table(runs, settings),
        command=_command(best.run),
        next=_runs_next(frames, floor, runs),
        sections=[section for section in sections if section],
    )


def _by_setting(runs: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """group and score: runs of one group differ by seed alone."""
    group = runs[settings].astype(str).agg(" ".join, axis=1) if settings else pd.Series("", runs.index)
    return pd.DataFrame({"group": group, "score": runs.val_accuracy}).dropna()


def _by_settings_table(runs: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    """The settings that differ, and the mean accuracy of each over its seeds, best first."""
    groups = _by_setting(runs, settings).group
    rows = []
    for _, own in runs.loc[groups.index].groupby(groups, sort=False):
        mean, low, high = mean_interval(own.val_accuracy)
        row = {key.removeprefix("config."): format_value(own[key].iloc[0]) for key in settings}
        row |= {
            "seeds": str(len(own)),
            "mean validation accuracy": f"{mean:.4f}",
            "95% interval": format_interval(low, high),
        }
        rows.append((mean, row))
    return pd.DataFrame([row for _, row in sorted(rows, key=lambda pair: -pair[0])]).head(TABLE)


def _runs_next(frames: Frames, floor: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    learned = diagnosis(frames.epochs)
    own = learned[learned.run == runs.run.iloc[0]]
    steps = [_advice(own.iloc[0])] if len(own) else []
    if len(floor) and len(runs) > 1:
        lead, sd = runs.val_accuracy.iloc[0] - runs.val_accuracy.iloc[1], floor.sd.iloc[0]
        verdict = "more than" if lead > sd else "no more than"
        steps.append(f"The best run leads the next by {lead:.4f}, {verdict} one seed makes of itself ({sd:.4f}).")
    else:
        steps.append("Run the best setting with more seeds (-m seed=0,1,2): from one seed no uncertainty can be told.")
    splits = runs.val_fingerprint[runs.val_fingerprint != ""].nunique()
    if splits > 1:
        steps.append("These runs were validated on different images: their accuracies cannot be compared.")
    return steps


def _all_runs(runs: pd.DataFrame, keys: list[str]) -> Section:
    shown = runs.head(TABLE * 5)
    rows = {"run": shown.run.map(lambda run: Path(run).name), "status": shown.status}
    rows |= {key.removeprefix("config."): shown[key].map(format_value) for key in keys}
    rows |= {"best epoch": shown.best_epoch.astype(str), "validation accuracy": shown.val_accuracy.map("{:.4f}".format)}
    return Section("All runs", "Best first.", table=pd.DataFrame(rows))


def _accuracy(run: pd.Series[Any]) -> Fact:
    """A run's validation accuracy, with Wilson's interval."""
    note = f"epoch {run.best_epoch}"
    if pd.notna(run.val_images):
        note = f"{format_interval(*wilson(run.val_accuracy, int(run.val_images)))} · {run.val_images} images · {note}"
    return Fact("validation accuracy", f"{run.val_accuracy:.4f}", note)


def _of_run(frames: Frames) -> Report:
    run = frames.runs.iloc[0]
    known = f"{run.epochs_done} of {run.epochs} epochs" if pd.notna(run.epochs) else f"{run.epochs_done} epochs"
    counted = ", ".join(filter(None, [run.status, known, f"seed {run.seed}" if pd.notna(run.seed) else "", run.device]))
    report = Report(frames.place, "one run", counted, is_running(frames))
    if frames.epochs.empty:
        reason = f" {run.message or run.problem}" if run.message or run.problem else ""
        return replace(report, problem=f"No epoch has finished, so nothing can be said yet.{reason}")
    learned = diagnosis(frames.epochs).iloc[0]
    epochs = figures.curves(frames)
    best = epochs.loc[epochs.val_accuracy.idxmax()]
    facts = [_accuracy(run)] if pd.notna(run.val_accuracy) else []
    if pd.notna(run.test_accuracy):
        images = int(run.test_images)
        note = f"{format_interval(*wilson(run.test_accuracy, images))} · {images} images"
        facts.append(Fact("test accuracy", f"{run.test_accuracy:.4f}", note))
    gap = f"validation {best.val_loss:.4f}, training {best.train_loss:.4f} · nats"
    facts.append(Fact("generalization gap at the best epoch", f"{best.gap:+.4f}", gap))
    speed = f"{frames.epochs.images_per_second.median():.0f} images/s"
    facts += [*_architecture(frames.runs), Fact("time of training", format_duration(run.train_seconds), speed)]
    drawn = {"loss": figures.both(epochs, "loss"), "accuracy": figures.both(epochs, "accuracy")}
    drawn |= {"gap": figures.learning(epochs, "gap"), "lr": figures.learning(epochs, "lr")}
    says = learned_text(learned)
    sections = [
        Section("Learning and generalization", says[0].upper() + says[1:], drawn),
        confusion_section(run.run, "this run"),
        _by_epoch(epochs),
    ]
    message = [_sentence(f"{run.status}: {run.message}")] if run.message else []
    return replace(
        report,
        facts=facts,
        table=_run_settings(run),
        command=_command(run.run),
        next=[*message, _advice(learned), *_gap_advice(epochs, run.val_images)],
        sections=[section for section in sections if section],
    )


def _advice(row: pd.Series[Any]) -> str:
    """What to do next after a run, by its diagnosis."""
    if row.diverged:
        return "It diverged: try a learning rate of a tenth."
    if row.overfitting:
        return "It overfits: try more weight decay, more augmentation, or fewer epochs."
    if row.improving:
        return "It was still improving: train for more epochs."
    return "It had stopped improving, without overfitting: more epochs of the same are hardly worth it."


def _gap_advice(epochs: pd.DataFrame, images: Any) -> list[str]:
    """Whether the training accuracy lies above what the validation images leave open."""
    last = epochs.iloc[-1]
    if pd.isna(images) or not 0 <= last.val_accuracy <= 1:
        return []
    _, high = wilson(last.val_accuracy, int(images))
    told = f"Training accuracy ends at {last.train_accuracy:.4f}"
    if last.train_accuracy > high:
        return [
            f"{told}, above the interval of validation accuracy (to {high:.4f}): regularisation or more data may help."
        ]
    return [f"{told}, not above the interval of validation accuracy (to {high:.4f}): a larger model has room."]


def _run_settings(run: pd.Series[Any]) -> pd.DataFrame:
    """What one would ask of a run first."""
    wanted = re.compile(r"config\.(optimizer|scheduler|loss|transfer|data\.(source|limit|val_size)|epochs|batch_size)")
    rows = [
        {"setting": str(key).removeprefix("config."), "value": format_value(run[key])}
        for key in run.index
        if wanted.match(str(key)) and not pd.isna(run[key])
    ]
    return pd.DataFrame(rows)


def _by_epoch(epochs: pd.DataFrame) -> Section:
    names = ["train_loss", "val_loss", "train_accuracy", "val_accuracy"]
    rows = {"epoch": epochs.epoch.astype(str)} | {
        name.replace("_", " "): epochs[name].map("{:.4f}".format) for name in names
    }
    rows |= {"lr": epochs.lr.map("{:.3g}".format), "seconds": epochs.seconds.map("{:.1f}".format)}
    return Section("Epoch by epoch", "Losses in nats, accuracies as shares of 1.", table=pd.DataFrame(rows))


def _command(run: str) -> str:
    """The command line of a run, from the overrides that Hydra kept; empty where they are not known."""
    try:
        overrides = yaml.safe_load((Path(run) / ".hydra" / "overrides.yaml").read_text("utf-8"))
        return shlex.join(["python", "run.py", *overrides])
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return ""


def of_several(places: Sequence[Frames]) -> Report:
    """Several searches, grids or runs against one another; each is a recipe."""
    names = _distinct([frames.study or frames.place for frames in places])
    usable = [(f, n) for f, n in zip(places, names, strict=True) if len(scores(f, n))]
    sizes = [f"{len(f.trials)} trials" if f.study else f"{len(f.runs)} runs" for f in places]
    counted = ", ".join(f"{name}: {size}" for name, size in zip(names, sizes, strict=True))
    report = Report(" · ".join(names), "comparison", counted, any(map(is_running, places)))
    if not usable:
        return replace(report, problem="Nothing is complete in any of them, so nothing can be said yet.")
    measures = {figures.measure(frames) for frames, _ in usable}
    if len(measures) > 1:
        raise FramesError(f"{', '.join(f.place for f in places)}: {' and '.join(sorted(measures))} cannot be compared")
    score = measures.pop()
    beliefs = pd.DataFrame([_belief(frames, name) for frames, name in usable]).sort_values("estimate", ascending=False)
    best = beliefs.iloc[0]
    usable.sort(key=lambda place: beliefs.recipe.tolist().index(place[1]))
    frames, _ = usable[0]
    curve = _curves_together(usable)
    confusion = confusion_section(best.run, f"the best of {best.recipe}")
    return replace(
        report,
        facts=[
            Fact(f"best {score}, estimated", f"{best.estimate:.4f}", f"{best.interval} · {best.recipe}, {best.whose}"),
            *_architecture(frames.runs[frames.runs.run == best.run]),
            Fact(
                "time of training",
                format_duration(sum(f.runs.train_seconds.sum() for f, _ in usable)),
                "of all together",
            ),
        ],
        table=_beliefs_table(beliefs, score),
        command=f"python run.py from_study={frames.place}" if _best_yaml(frames) else _command(best.run),
        next=_compared_next(usable, beliefs),
        sections=[section for section in [*_recipes(usable, score), curve, confusion] if section],
        best_yaml=_best_yaml(frames),
    )


def _distinct(names: list[str]) -> list[str]:
    return [f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _belief(frames: Frames, recipe: str) -> dict[str, Any]:
    """The best of a recipe: recipe, whose, run, reported, estimate, interval, settings."""
    found = scores(frames, recipe).sort_values("score", ascending=False)
    best = found.iloc[0]
    row = {
        "recipe": recipe,
        "whose": Path(best.run).name,
        "run": best.run,
        "reported": best.score,
        "estimate": best.score,
    }
    row |= {"interval": "how sure is not known", "settings": ""}
    evidence = Evidence(frames)
    if not frames.study or evidence.complete.empty:
        return row
    winner = evidence.winner
    settings = " ".join(f"{k}={format_value(v)}" for k, v in summary.settings_of(winner).items())
    row |= {"whose": f"trial {winner.number}", "run": winner.run, "reported": winner.score, "settings": settings}
    try:
        curse = winners_curse(evidence.top).iloc[0]
    except StatisticsError:
        return row | {"estimate": winner.score}
    interval = format_interval(curse.reported - curse.high, curse.reported - curse.low)
    return row | {"estimate": curse.estimate, "interval": interval}


def _beliefs_table(beliefs: pd.DataFrame, score: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "recipe": beliefs.recipe,
            "best": beliefs.whose,
            "reported": beliefs.reported.map("{:.4f}".format),
            f"estimated {score}": beliefs.estimate.map("{:.4f}".format),
            "95% interval": beliefs.interval,
            "settings": beliefs.settings,
        }
    )


def _compared_next(places: list[tuple[Frames, str]], beliefs: pd.DataFrame) -> list[str]:
    """What the comparison says, and what would make it fairer."""
    steps = []
    groups = {name: scores(frames, name).score for frames, name in places}
    first = beliefs.recipe.iloc[0]
    for other in beliefs.recipe.iloc[1:3]:
        row = improvement(groups[first], groups[other]).iloc[0]
        sure = "it is better" if row.low > 0.5 else "it is worse" if row.high < 0.5 else "they cannot be told apart"
        steps.append(
            f"A trial of {first} scores above one of {other} in {_wins(groups[first], groups[other])}: {sure}."
        )
    fewest = min(groups, key=lambda name: len(groups[name]))
    most = max(map(len, groups.values()))
    if len(groups[fewest]) < most:
        fair = f"{fewest} has {len(groups[fewest])} trials and another {most}"
        steps.append(f"{fair}: before a recipe is dropped, let all have as many.")
    splits = {f for frames, _ in places for f in frames.runs.val_fingerprint if f}
    if len(splits) > 1:
        steps.append("They were validated on different images: the accuracies cannot be compared.")
    return steps


def _curves_together(places: list[tuple[Frames, str]]) -> Section | None:
    """The learning curves of the best run of each."""
    best = []
    for rank, (frames, name) in enumerate(places, 1):
        epochs = figures.curves(frames)
        best.append(epochs[epochs["rank"] == 1].assign(name=name, rank=rank))
    epochs = pd.concat(best, ignore_index=True)
    if epochs.empty:
        return None
    drawn = {f"best-{_file(y)}": figures.learning(epochs, y, len(places)) for y in figures.MEASURES}
    return Section("Learning and generalization of the best runs", "The best complete run of each.", drawn)

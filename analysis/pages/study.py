"""The report of one search, in whatever state it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cifar.files import best_trial_file
from cifar.formatting import count_of, format_interval, format_value

from ..answer import summarize
from ..evidence import Evidence
from ..frames import Frames
from ..sections import Context, Place, sections_of
from ..wording import advice, not_known, on_data_of
from .base import Fact, Report, architecture_facts, is_running, sentence, time_fact, total_seconds


def report_of(frames: Frames) -> Report:
    evidence = Evidence(frames)
    answer = summarize(frames, evidence)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in answer["trials"].items()) or "no trials yet"
    report = Report(frames.study, "hyperparameter search", counts, is_running(frames))
    place = Place(frames.study, frames)
    if "best" not in answer:
        reason = f" The first reason: {answer['reason']}" if answer.get("reason") else ""
        problem = f"{sentence(answer['problem'])}{reason}"
        return replace(report, problem=problem, sections=sections_of(Context("study", [place], answer=answer)))
    return replace(
        report,
        facts=facts(frames, answer),
        table=_best_settings(answer, evidence.space),
        command=answer.get("command", ""),
        next_steps=_next_steps(answer),
        sections=sections_of(Context("study", [place], answer["best"]["run"], evidence, answer)),
        best_yaml=best_trial_file(Path(frames.place)),
    )


def _next_steps(answer: dict[str, Any]) -> list[str]:
    unknown = not_known(answer)
    return [sentence(step) for step in (*on_data_of(answer), *unknown, *advice(answer))]


def facts(frames: Frames, answer: dict[str, Any]) -> list[Fact]:
    """Score, test accuracy, noise, architecture and training time of a search; `answer` is that of analysis.answer."""
    best = answer["best"]
    confirmed = answer.get("confirmed")
    shown = [_score_fact(frames.value_name, answer)]
    if confirmed and "test" in confirmed:
        shown.append(_test_fact(confirmed["test"]))
    elif confirmed and confirmed.get("looks"):
        shown.append(Fact("test accuracy", "missing", f"evaluated ({confirmed['looks']}), but the runs are missing"))
    elif len(frames.runs):
        shown.append(Fact("test accuracy", "not evaluated", "a search never reads test images"))
    if "noise" in answer:
        source = "by the search and its fresh seeds" if confirmed else "estimated from the search"
        shown.append(Fact("noise between seeds", f"{answer['noise']:.4f}", f"s.d. of one trial, {source}"))
    shown += architecture_facts(frames.runs[frames.runs.run == best["run"]])
    return [*shown, time_fact(total_seconds(frames), "all trials together")]


def _score_fact(name: str, answer: dict[str, Any]) -> Fact:
    """On fresh seeds, else estimated, else as it was reported."""
    best = answer["best"]
    if "confirmed" in answer:
        label = f"{name}, mean of {count_of(answer['confirmed']['seeds'], 'fresh seed')}"
        estimate = answer["confirmed"]
    elif "truly" in answer:
        label = f"{name}, estimated"
        estimate = answer["truly"]
    else:
        return Fact(f"{name}, reported", f"{best['value']:.4f}", f"trial {best['trial']} · uncertainty not known")
    interval = format_interval(estimate["low"], estimate["high"])
    known = estimate["low"] == estimate["low"]  # not of one seed
    note = f"{interval}{' (95%)' if known else ''} · trial {best['trial']}, reported {best['value']:.4f}"
    return Fact(label, f"{estimate['mean']:.4f}", note)


def _test_fact(test: dict[str, Any]) -> Fact:
    interval = format_interval(test["wilson_low"], test["wilson_high"])
    note = f"{interval} · {count_of(int(test['images']), 'image')}"
    if test["look"] > 1:
        note += f" · evaluated {test['look']} times, so no longer unseen"
    if "objective" in test:
        objective = test["objective"]
        interval = format_interval(objective["low"], objective["high"])
        note = f"{interval} over {count_of(int(test['seeds']), 'seed')} · test accuracy {test['accuracy']:.4f}, {note}"
        return Fact(f"test {objective['name']}", f"{objective['value']:.4f}", note)
    return Fact("test accuracy", f"{test['accuracy']:.4f}", note)


def _best_settings(answer: dict[str, Any], space: pd.DataFrame) -> pd.DataFrame:
    """hyperparameter, best, matters, best lies, searched; without what is not known."""
    ranges = {row.hyperparameter: _range(row) for row in space.itertuples()}
    importance = {row["hyperparameter"]: row for row in answer.get("importance", [])}
    rows = []
    for key, value in answer["best"]["hyperparameters"].items():
        row = {"hyperparameter": key, "best": format_value(value)}
        if importance:
            sides = [side for side in answer["boundaries"] if side["hyperparameter"] == key]
            row["matters"] = _verdict(importance[key]) if key in importance else ""
            row["best lies"] = _position(sides)
        row["searched"] = ranges.get(key, "")
        rows.append(row)
    return pd.DataFrame(rows)


def _range(row: Any) -> str:
    if row.kind == "choice":
        return ", ".join(map(str, row.choices))
    return f"{row.low:.4g} to {row.high:.4g}{', log' if row.log else ''}"


def _verdict(row: dict[str, Any]) -> str:
    return f"yes, {row['importance']:.0%}" if row["verdict"] == "matters" else "not shown"


def _position(sides: list[dict[str, Any]]) -> str:
    """Where in its range the best value lies; `sides` are rows of statistics.boundaries."""
    if not sides:
        return ""
    ends = [side["side"] for side in sides if side["verdict"] == "edge"]
    if ends:
        return f"at the {' and '.join(ends)} end"
    return "inside" if all(side["verdict"] == "inside" for side in sides) else "not clear"

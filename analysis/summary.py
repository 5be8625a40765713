"""The answer of a search, in at most 30 lines: what is best, how sure that is, and what to do next.

python -m analysis.summary sweeps/NAME           # or the URL of any Optuna study: sqlite:///FILE, with --study NAME
python -m analysis.summary sweeps/NAME --json    # the same for machines
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .architecture import architecture, model_name, model_settings
from .formatting import format_count, format_interval, format_value
from .frames import Frames, FramesError, read
from .statistics import boundaries, importance
from .statistics.accuracy import accuracy_on_test
from .statistics.budget import best_of_n, budget_scores, enough_trials
from .statistics.curse import measured_curse, winners_curse
from .statistics.learning import diagnosis
from .statistics.model import StatisticsError, surrogate_of
from .statistics.noise import binomial_noise
from .statistics.ranking import top_trials
from .surrogate import Noise, Surrogate

SHOWN = 5
"""Hyperparameters and tied trials that the text names."""


@dataclass(frozen=True)
class Evidence:
    """What the statistics say of a study's winner and of the trials of its branch, each computed once.

    `complete` are the complete trials, best first; the winner, the confirmed one if any, is one of them. What comes
    from the surrogate raises StatisticsError where too few trials are complete.
    """

    frames: Frames

    @cached_property
    def complete(self) -> pd.DataFrame:
        complete = self.frames.trials[self.frames.trials.score.notna()]
        return complete.sort_values(["score", "number"], ascending=[False, True])

    @cached_property
    def confirmed(self) -> dict[str, Any]:
        return _confirmed(self.frames)

    @cached_property
    def winner(self) -> pd.Series[Any]:
        number = self.confirmed["trial"] if self.confirmed else self.complete.number.iloc[0]
        return self.complete[self.complete.number == number].iloc[0]

    @cached_property
    def trials(self) -> pd.DataFrame:
        return self.frames.trials[self.frames.trials.branch == self.winner.branch]

    @cached_property
    def space(self) -> pd.DataFrame:
        return self.frames.spaces[self.frames.spaces.branch == self.winner.branch]

    @cached_property
    def surrogate(self) -> Surrogate:
        noise = _noise(self.frames, self.winner)
        return surrogate_of(self.trials, self.space, _curves(self.frames), noise, self.frames.fresh)

    @cached_property
    def noise(self) -> float:
        return float(self.surrogate.noise.mean())

    @cached_property
    def top(self) -> pd.DataFrame:
        return top_trials(self.trials, self.space, self.surrogate, int(self.winner.number))

    @cached_property
    def importance(self) -> pd.DataFrame:
        return importance.importance(self.trials, self.space, self.surrogate)

    @cached_property
    def boundaries(self) -> pd.DataFrame:
        return boundaries.boundaries(self.trials, self.space, self.surrogate)

    @cached_property
    def curve(self) -> pd.DataFrame:
        return best_of_n(budget_scores(self.trials))


def summarize(frames: Frames, evidence: Evidence | None = None) -> dict[str, Any]:
    """All that the text says, in plain types; what cannot be said is missing. Raises FramesError for what is no search.

    Where options decided what else was searched, the hyperparameters are those of the winner's branch.
    """
    if len(frames.objectives) != 1:
        what = f"{len(frames.objectives)} objectives" if frames.objectives else "runs, but no study"
        raise FramesError(f"{frames.place}: holds {what}; allowed: a study with one objective")
    trials, evidence = frames.trials, evidence or Evidence(frames)
    found: dict[str, Any] = {
        "study": frames.study,
        "trials": {str(k): int(v) for k, v in trials.outcome.value_counts().items()},
    }
    if evidence.complete.empty:
        reasons = trials.reason[trials.reason != ""]
        return found | {"reason": str(reasons.iloc[0]) if len(reasons) else ""}
    found |= {"confirmed": evidence.confirmed} if evidence.confirmed else {}
    if len(frames.fresh) and not evidence.confirmed:
        found["confirming"] = len(frames.fresh)
    winner = evidence.winner
    found["best"] = {
        "trial": int(winner.number),
        "value": float(winner.value),
        "run": winner.run,
        "branch": winner.branch,
        "hyperparameters": settings_of(winner),
        "architecture": architecture(frames.runs[frames.runs.run == winner.run]),
    }
    if (Path(frames.place) / "best.yaml").exists():
        found["command"] = f"python run.py from_study={frames.place}"
    try:
        return found | _believed(evidence)
    except StatisticsError as error:
        return found | {"unknown": str(error)}


def _confirmed(frames: Frames) -> dict[str, Any]:
    """What fresh seeds and the test set say of the chosen trial; nothing where there was no confirmation."""
    curse = measured_curse(frames.fresh)
    if frames.chosen not in curse.number.tolist():
        return {}
    best = curse[curse.number == frames.chosen].iloc[0]
    found = {"trial": int(best.number), **_true(frames, best), "seeds": int(best.seeds), "curse": best.curse}
    found["candidates"] = curse.to_dict("records")
    tests = frames.tests.dropna(subset=["accuracy", "images"])
    if tests.empty:
        return found | {"looks": frames.looks}
    latest = accuracy_on_test(tests[tests["look"] == tests["look"].max()]).iloc[0].to_dict()
    return found | {"test": latest | {"look": frames.looks}}


def _true(frames: Frames, curse: pd.Series[Any]) -> dict[str, float]:
    """mean, low, high: what a trial's value is without the luck, of which `curse` is a row.

    With runs of this program it is an accuracy, and no more than 1.
    """
    sign = -1 if frames.objectives == ("minimize",) else 1
    low, high = sorted(sign * (curse.reported - curse[end]) for end in ("high", "low"))
    bounds = (0, 1) if len(frames.runs) else (-np.inf, np.inf)
    named = {"mean": sign * curse.estimate, "low": low, "high": high}
    return {name: float(np.clip(value, *bounds)) for name, value in named.items()}


def settings_of(trial: pd.Series[Any]) -> dict[str, Any]:
    """A trial's hyperparameters, in the types that JSON has."""
    own = {str(key).removeprefix("params."): trial[key] for key in trial.index if str(key).startswith("params.")}
    return {key: getattr(value, "item", lambda v=value: v)() for key, value in own.items() if not pd.isna(value)}


def _believed(evidence: Evidence) -> dict[str, Any]:
    """What the statistics say of the trials of the winner's branch."""
    top, frames = evidence.top, evidence.frames
    curse = winners_curse(top).iloc[0]
    learned = diagnosis(frames.epochs[frames.epochs.run == evidence.winner.run])
    return {
        "noise": evidence.noise,
        "winners_curse": curse.to_dict(),
        "truly": _true(frames, curse),
        "tied": top[top.tied].nlargest(len(top), "best")[["number", "score", "estimate", "best"]].to_dict("records"),
        "importance": evidence.importance.to_dict("records"),
        "boundaries": evidence.boundaries.to_dict("records"),
        "enough_trials": enough_trials(evidence.curve, evidence.noise),
        "learned": learned.iloc[0].to_dict() if len(learned) else {},
    }


def _noise(frames: Frames, winner: pd.Series[Any]) -> Noise | None:
    """What is to be expected of the noise by the number of images; nothing where that is not known."""
    images = frames.runs.val_images[frames.runs.run == winner.run].dropna()
    if images.empty or not 0 < winner.value < 1:
        return None
    return binomial_noise(float(winner.value), int(images.iloc[0]))


def _curves(frames: Frames) -> pd.DataFrame:
    """number, step, score of every epoch of the trials' runs; none where the study minimizes something else."""
    if frames.objectives != ("maximize",):
        return pd.DataFrame(columns=["number", "step", "score"])
    number = dict(zip(frames.trials.run, frames.trials.number, strict=True))
    epochs = frames.epochs[frames.epochs.run.isin(set(number) - {""})]
    return pd.DataFrame({"number": epochs.run.map(number), "step": epochs.epoch, "score": epochs.val_accuracy})


def text(found: dict[str, Any]) -> str:
    """The summary, for a terminal."""
    counted = ", ".join(f"{count} {outcome}" for outcome, count in found["trials"].items()) or "no trials yet"
    lines = [f"study {found['study']}: {counted}"]
    if "best" not in found:
        reason = f"; the first reason: {found['reason']}" if found.get("reason") else ""
        return "\n".join([*lines, f"no trial is complete, so nothing can be said yet{reason}"])
    best = found["best"]
    chosen = "best on fresh seeds" if "confirmed" in found else "best"
    lines += [f"{chosen}: trial {best['trial']}, which reported {best['value']:.4f}", *_hyperparameters(found)]
    lines += _architecture_line(best["architecture"])
    lines += [f"  train it: {found['command']}"] if "command" in found else []
    lines += ["how sure:", *_measured(found.get("confirmed"))]
    if "confirming" in found:
        lines += [f"  its confirmation has begun: {found['confirming']} runs on fresh seeds are done"]
    if "unknown" in found:
        return "\n".join([*lines, f"  more cannot be said: {found['unknown']}"])
    return "\n".join([*lines, *_estimated(found), "next:", *(f"  {line}" for line in advice(found))])


def _hyperparameters(found: dict[str, Any]) -> list[str]:
    """A line each, the most important first: its value, its share of the variance, and where in its range it lies."""
    values, importance = found["best"]["hyperparameters"], found.get("importance", [])
    order = [row["hyperparameter"] for row in importance if row["hyperparameter"] in values]
    said = {row["hyperparameter"]: f"  {_share(row)}{_where(row, found)}" for row in importance}
    shown = [*order, *(key for key in values if key not in order)][: 2 * SHOWN]
    width, digits = max(map(len, shown), default=0), max((len(format_value(values[key])) for key in shown), default=0)
    return [f"  {key:<{width}}  {format_value(values[key]):<{digits}}{said.get(key, '')}".rstrip() for key in shown]


def _share(row: dict[str, Any]) -> str:
    told = f"makes {row['importance']:.0%} ({row['low']:.0%} to {row['high']:.0%}) of the variance"
    return told if row["verdict"] == "matters" else row["verdict"]


def _where(row: dict[str, Any], found: dict[str, Any]) -> str:
    sides = [b for b in found["boundaries"] if b["hyperparameter"] == row["hyperparameter"]]
    at = [f"; the best lie at the {b['side']} end of its range" for b in sides if b["verdict"] == "edge"]
    return at[0] if at else "; best inside its range" if sides and all(b["verdict"] == "inside" for b in sides) else ""


def _architecture_line(model: dict[str, Any]) -> list[str]:
    if not model:
        return []
    settings = [f"{key}={value}" for key, value in model_settings(model).items()]
    size = [f"{format_count(model['parameters'])} parameters"] if "parameters" in model else []
    size += [f"{format_count(model['flops'])}FLOP an image"] if "flops" in model else []
    return [f"  model: {', '.join([' '.join([model_name(model), *settings]), *size])}"]


def _range(found: dict[str, Any]) -> str:
    return format_interval(found["low"], found["high"], missing="no interval")


def _measured(confirmed: dict[str, Any] | None) -> list[str]:
    """What the confirmation found."""
    if confirmed is None:
        return []
    c, test = confirmed, confirmed.get("test")
    lines = [
        f"  {c['mean']:.4f} on {c['seeds']} fresh seeds ({_range(c)}), the best mean of"
        f" {len(c['candidates'])} candidates; it had reported {abs(c['curse']):.4f}"
        f" {'better' if c['curse'] > 0 else 'worse'}"
    ]
    if c.get("looks"):
        lines += [f"  the test set was looked at ({c['looks']}), but the runs that say what was seen are not there"]
    if test:
        looks = "looked at once" if test["look"] == 1 else f"looked at {test['look']:.0f} times, so no longer unseen"
        of = "" if test["number"] == c["trial"] else f" (of trial {test['number']:.0f})"
        images = f"{test['wilson_low']:.4f} to {test['wilson_high']:.4f} over {test['images']:.0f} images"
        seeds = f"{_range(test)} over {test['seeds']:.0f} seeds"
        lines += [f"  test accuracy {test['accuracy']:.4f}{of}: {images}, {seeds}; {looks}"]
    return lines


def _estimated(found: dict[str, Any]) -> list[str]:
    """What the search itself says."""
    true, tied, lines = found["truly"], found["tied"], []
    if "confirmed" not in found:
        reason = "the best of many is in part luck"
        lines += [f"  truly about {true['mean']:.4f} ({true['low']:.4f} to {true['high']:.4f}): {reason}"]
    source = "by the search and its fresh seeds" if "confirmed" in found else "as this search estimates"
    lines += [f"  one trial varies by {found['noise']:.4f} (s.d.) from seed to seed, {source}"]
    if len(tied) > 1:
        named = ", ".join(f"{t['number']} ({t['best']:.0%})" for t in tied[:SHOWN])
        lines += [f"  {len(tied)} trials cannot be told from the best; the likeliest to be it: {named}"]
    return lines


def advice(found: dict[str, Any]) -> list[str]:
    """What to do next, a sentence each, at most six."""
    lines = _ranges_to_widen(found)[:2]
    idle = [row["hyperparameter"] for row in found["importance"] if row["verdict"] != "matters"][:SHOWN]
    if idle and all(row["verdict"] != "matters" for row in found["importance"]):
        lines += ["no hyperparameter is shown to matter: the trials are too few, or the ranges too narrow"]
    elif idle:
        lines += [f"{', '.join(idle)}: not shown to matter; may be fixed"]
    if found["learned"].get("improving"):
        lines += [f"the best run still improved at its end, in epoch {found['learned']['best_epoch']}: try more epochs"]
    done, enough = sum(found["trials"].get(outcome, 0) for outcome in ("complete", "pruned")), found["enough_trials"]
    more = "more of the same are hardly worth it" if enough <= done / 2 else "more trials may still find better"
    lines += [f"{enough} of {done} trials come within the noise of the best: {more}"]
    if "command" in found and "confirmed" not in found:
        study = found["command"].partition("from_study=")[2]
        lines += [f"confirm it: python run.py -m hydra/sweeper=confirm hydra.sweeper.study={study}"]
    return lines


def _ranges_to_widen(found: dict[str, Any]) -> list[str]:
    lines = []
    for side in found["boundaries"]:
        if side["verdict"] == "edge":
            wider = f"{format_value(side['low'])} to {format_value(side['high'])}"
            lines.append(f"widen {side['hyperparameter']}: {wider} (hydra.sweeper.study_name=ANOTHER)")
    return lines


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.summary", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("place", help="a folder sweeps/NAME, or the URL of an Optuna study")
    parser.add_argument("--study", help="its name, where a storage holds several")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(argv)
    try:
        found = summarize(read(options.place, options.study))
    except FramesError as error:
        sys.exit(f"error: {error}")
    try:
        print(json.dumps(_strict(found), indent=2) if options.json else text(found), flush=True)
    except BrokenPipeError:  # whoever reads has seen enough (head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _strict(value: Any) -> Any:
    """In the types of JSON, which has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    value = getattr(value, "item", lambda: value)()
    return None if isinstance(value, float) and not np.isfinite(value) else value


if __name__ == "__main__":
    main(sys.argv[1:])

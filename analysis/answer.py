"""The answer of a search in plain types: what is best, how sure that is, and what the search says of its space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cifar.commands import command, module_command, override
from cifar.files import BEST_TRIAL
from cifar.formatting import as_whole

from .architecture import architecture
from .confirmation import trained_execution
from .evidence import Evidence, true_value
from .frames import Frames, FramesError
from .statistics.budget import enough_trials
from .statistics.curse import winners_curse
from .statistics.learning import diagnosis
from .statistics.model import StatisticsError

PARAMS = "params."


def summarize(frames: Frames, evidence: Evidence | None = None) -> dict[str, Any]:
    """All that the text says; what cannot be said is missing. Raises FramesError for what is no search.

    Where options decided what else was searched, the hyperparameters are those of the winner's branch.
    """
    if len(frames.objectives) != 1:
        raise FramesError(why_no_search(frames))
    evidence = evidence or Evidence(frames)
    trials = frames.trials
    counts = {str(outcome): int(count) for outcome, count in trials.outcome.value_counts().items()}
    answer: dict[str, Any] = {"study": frames.study, "trials": counts, "objective": frames.value_name}
    answer["direction"] = frames.objectives[0]
    without_score = trials.number[(trials.outcome == "complete") & trials.score.isna()]
    if len(without_score):
        answer["without_score"] = [int(number) for number in without_score]
    if evidence.complete.empty:
        reasons = trials.reason[trials.reason != ""]
        return answer | {"problem": _why_no_best(counts), "reason": str(reasons.iloc[0]) if len(reasons) else ""}
    if evidence.confirmed:
        answer["confirmed"] = evidence.confirmed
        if (Path(frames.place) / BEST_TRIAL).exists():
            bundle = f"{Path(frames.place).resolve().name}-model"
            answer["export"] = module_command("cifar.export", frames.place, "--bundle", bundle, with_trust=True)
    elif len(frames.fresh):
        answer["confirming"] = len(frames.fresh)
    answer["best"] = _best(frames, evidence.winner)
    if (Path(frames.place) / BEST_TRIAL).exists():
        answer["command"] = command(override("from_study", frames.place))
        answer["confirm"] = command("-m", "hydra/sweeper=confirm", override("hydra.sweeper.study", frames.place))
        answer["execution"] = trained_execution(Path(frames.place))
    try:
        return answer | _estimates(evidence)
    except StatisticsError as error:
        return answer | {"unknown": str(error)}


def _why_no_best(counts: dict[str, int]) -> str:
    if "complete" in counts:
        return "no complete trial has a finite value (below 1e100 in size), so nothing can be said yet"
    return "no trial is complete, so nothing can be said yet"


def why_no_search(frames: Frames) -> str:
    """Why a place has no answer: it holds no study, or one with several objectives."""
    if not frames.objectives:
        report = module_command("analysis.report")
        return f"{frames.place}: holds runs, but no study; allowed: a study ({report} shows runs)"
    directions = ", ".join(frames.objectives)
    return (
        f"{frames.place}: study {frames.study} has {len(frames.objectives)} objectives ({directions}), so that no trial"
        " is best; allowed: a study with one objective (optuna.visualization.plot_pareto_front shows several)"
    )


def _best(frames: Frames, winner: pd.Series[Any]) -> dict[str, Any]:
    runs = frames.runs[frames.runs.run == winner.run]
    return {
        "trial": int(winner.number),
        "value": float(winner.value),
        "run": winner.run,
        "branch": winner.branch,
        "hyperparameters": settings_of(winner),
        "architecture": architecture(runs),
        **(data_of(runs.iloc[0]) | leaks_of(runs.iloc[0]) if len(runs) else {}),
    }


def data_of(run: pd.Series[Any]) -> dict[str, Any]:
    """How many of a run's validation and test images are also training images, of how many, and what data.fixes did.

    Empty where there are no copies and no fixes.
    """
    facts: dict[str, Any] = {}
    for count, images in (("also_in_train", "val_images"), ("test_also_in_train", "test_images")):
        if pd.notna(run[count]) and pd.notna(run[images]) and run[count]:
            facts |= {count: int(run[count]), images: int(run[images])}
    fixes = {name: run[f"fixes_{name}"] for name in ("dropped", "relabelled", "grouped")}
    if pd.notna(fixes["dropped"]):
        facts["fixes"] = {name: int(count) for name, count in fixes.items()}
    if pd.notna(run.test_accuracy_without_fixes):
        facts["test_accuracy_without_fixes"] = float(run.test_accuracy_without_fixes)
    return facts


def leaks_of(run: pd.Series[Any]) -> dict[str, Any]:
    """How many of a run's images are training images too by data.check_duplicates, and its accuracy on the others.

    Empty where that is not known.
    """
    facts: dict[str, Any] = {}
    for count, accuracy in (("val_duplicates", "val_accuracy_without"), ("test_duplicates", "test_accuracy_without")):
        if pd.notna(run[accuracy]):
            facts |= {count: int(run[count]), accuracy: float(run[accuracy])}
    return facts


def settings_of(trial: pd.Series[Any]) -> dict[str, Any]:
    """A trial's hyperparameters, in the types that JSON has."""
    settings = {str(key).removeprefix(PARAMS): trial[key] for key in trial.index if str(key).startswith(PARAMS)}
    return {key: as_whole(plain(value)) for key, value in settings.items() if not pd.isna(value)}


def plain(value: Any) -> Any:
    """A NumPy number as a Python number; all else as it is."""
    return value.item() if hasattr(value, "item") else value


def _estimates(evidence: Evidence) -> dict[str, Any]:
    """What the statistics say of the trials of the winner's branch."""
    top = evidence.top
    frames = evidence.frames
    curse = winners_curse(top).iloc[0]
    tied = top[top.tied].nlargest(len(top), "best")
    learned = diagnosis(frames.epochs[frames.epochs.run == evidence.winner.run])
    return {
        "noise": evidence.noise,
        "winners_curse": curse.to_dict(),
        "truly": true_value(frames, curse),
        "tied": tied[["number", "score", "estimate", "best"]].to_dict("records"),
        "importance": evidence.importance.to_dict("records"),
        "boundaries": evidence.boundaries.to_dict("records"),
        "enough_trials": enough_trials(evidence.curve, evidence.noise),
        "used_trials": len(evidence.curve),
        "learned": learned.iloc[0].to_dict() if len(learned) else {},
    }

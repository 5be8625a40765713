"""Which trained model a place means: that of a run, the best one of a study, or an exported one. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cifar.commands import command, override
from cifar.errors import UserError
from cifar.layout import analysis
from cifar.results import BEST, ResultsError, read_result

if TYPE_CHECKING:
    from analysis.frames import Frames

ONNX = "model.onnx"
ALLOWED = "allowed: a run directory, a folder sweeps/NAME, a best.pt, an exported model (.onnx) or a bundle"


class PlaceError(UserError):
    """A place that holds no trained model."""


@dataclass(frozen=True)
class Chosen:
    """`file`: a best.pt or an exported model. `reason`: why this one, in words; empty where the place names it.

    `study`: the folder of the study that it was chosen from. `tested`: the run directory in which these weights were
    evaluated on the test set by a confirmation.
    """

    file: Path
    reason: str = ""
    study: Path | None = None
    tested: Path | None = None


def choose(place: str | Path) -> Chosen:
    """The model of a run, of a best.pt or a bundle; of a study the confirmed trial's best run, else the best trial's.

    Raises PlaceError, and FramesError for a study that cannot be read.
    """
    path = Path(place)
    if path.is_file() and path.suffix in (".pt", ".onnx"):
        return Chosen(path)
    if path.is_file():
        raise PlaceError(f"{place}: a file that holds no model of this program; {ALLOWED}")
    if not path.is_dir():
        search = Path("sweeps", place)
        hint = f"; did you mean {search}?" if search.is_dir() else ""
        raise PlaceError(f"{place}: no such file or directory{hint}; {ALLOWED}")
    for name in (BEST, ONNX):
        if (path / name).is_file():
            return Chosen(path / name)
    if (path / "result.json").exists():
        raise PlaceError(f"{place}: a run without a {BEST}, as it has not finished an epoch; resume it or take another")
    return _of_study(path)


def _of_study(folder: Path) -> Chosen:
    module = analysis("frames")
    try:
        frames: Frames = module.read(str(folder))
    except module.FramesError as error:
        raise PlaceError(f"{error}; {ALLOWED}") from None
    if not frames.study:
        runs = _with_model(_ranked(frames.runs))
        example = "" if runs.empty else f", as {runs.iloc[0].run}, the best one by validation"
        raise PlaceError(f"{folder}: holds several runs, but no study; name one of them{example}")
    if len(frames.objectives) != 1:
        raise PlaceError(f"{folder}: a study of {len(frames.objectives)} objectives has no best trial; name a run")
    return _best(frames, folder) if frames.chosen is None else _confirmed(frames, folder)


def _confirmed(frames: Frames, folder: Path) -> Chosen:
    """The run with the best validation score of the runs on fresh seeds of the confirmed trial."""
    confirmed = _ranked(frames.fresh[frames.fresh.number == frames.chosen])
    fresh = _with_model(confirmed)
    if fresh.empty:
        raise PlaceError(
            f"{folder}: trial {frames.chosen} of study {frames.study} is confirmed, but none of its runs on fresh seeds"
            f" has its {BEST}; train it again ({command(override('from_study', folder))}) and name that run, or another"
        )
    run = fresh.iloc[0]
    reason = (
        f"study {frames.study}: trial {frames.chosen}, confirmed on {len(confirmed)} fresh seeds; of these seed"
        f" {run.seed} has the best {frames.value_name}, {abs(run.score):.4f}"
    )
    if run.run != confirmed.iloc[0].run:
        reason += f", of those whose {BEST} is there (that of seed {confirmed.iloc[0].seed} is missing)"
    tests = frames.tests[(frames.tests.number == frames.chosen) & (frames.tests.seed == run.seed)]
    return Chosen(Path(run.run) / BEST, reason, folder, None if tests.empty else Path(tests.iloc[-1].run))


def _best(frames: Frames, folder: Path) -> Chosen:
    """The run of the best trial."""
    ranked = _ranked(frames.trials[frames.trials.outcome == "complete"])
    complete = _with_model(ranked)
    if complete.empty:
        raise PlaceError(
            f"{folder}: no trial of study {frames.study} is complete and has its {BEST}; let the search finish, or name"
            " a run"
        )
    trial = complete.iloc[0]
    reason = (
        f"study {frames.study}: trial {trial.number} has the best {frames.value_name}, {trial.value:.4f};"
        " it is not confirmed on fresh seeds"
    )
    if trial.number != ranked.iloc[0].number:
        reason += f"; trial {ranked.iloc[0].number} is better, but its {BEST} is missing"
    return Chosen(Path(trial.run) / BEST, reason, folder)


def read_test(chosen: Chosen) -> dict[str, Any] | None:
    """What the test of the chosen weights showed, as result.json has it; None where there was none."""
    try:
        test = read_result(chosen.tested or chosen.file.parent).get("test")
    except ResultsError:
        return None
    return test if isinstance(test, dict) else None


def _ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a score, best first; of equals the earlier first."""
    return rows[rows.score.notna()].sort_values("score", ascending=False, kind="stable")


def _with_model(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose run has a best.pt."""
    return rows[np.array([(Path(run) / BEST).is_file() for run in rows.run], bool)]

"""How the settings of a model were found, from its study: for the model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar import formatting, layout

if TYPE_CHECKING:
    from analysis import answer, reading
    from analysis.evidence import Evidence
    from analysis.frames import Frames, read
    from analysis.statistics.candidates import candidates_table
else:
    answer, reading = map(layout.analysis, ("answer", "reading"))
    Evidence, read = layout.analysis("evidence").Evidence, layout.analysis("frames").read
    candidates_table = layout.analysis("statistics.candidates").candidates_table


@dataclass(frozen=True)
class History:
    """A study's search and confirmation, as texts and rows of texts. `confirmed` and `test` are of analysis.answer,
    `candidates` of analysis.statistics.candidates.

    `trial`: of which the exported run is. `test_row`: the row of `frames.tests` of that run; None where there is none.
    """

    frames: Frames
    trial: int
    answer: dict[str, Any]
    space: list[dict[str, str]]
    outcomes: str
    sampler: str
    pruner: str
    planned: int | None
    epochs: int
    duration: str
    seeds: str
    sampler_seed: int | None
    candidates: pd.DataFrame
    test_row: pd.Series[Any] | None

    @property
    def confirmed(self) -> dict[str, Any]:
        return dict(self.answer.get("confirmed", {}))

    @property
    def test(self) -> dict[str, Any]:
        return dict(self.confirmed.get("test", {}))


def history_of(study: Path, run: Path) -> History:
    """The history of the study in a folder; `run` is the exported one. Raises FramesError."""
    frames = read(str(study))
    evidence = Evidence(frames)
    winner = _trial(evidence, run)
    sweeper = _sweeper(Path(winner.run))
    counts = frames.trials.outcome.value_counts()
    return History(
        frames=frames,
        trial=int(winner.number),
        answer=answer.summarize(frames, evidence),
        space=[_range(row, winner) for _, row in evidence.space.iterrows()],
        outcomes=", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
        sampler=_class_name(reading.value_at(sweeper, "sampler._target_")),
        pruner=_class_name(reading.value_at(sweeper, "pruner._target_")),
        planned=reading.value_at(sweeper, "n_trials"),
        epochs=int(frames.runs.epochs_done.sum()),
        duration=formatting.format_time(float(frames.trials.seconds.sum())),
        seeds=", ".join(str(seed) for seed in sorted(frames.runs.seed.dropna().unique())[:10]),
        sampler_seed=reading.value_at(sweeper, "sampler.seed"),
        candidates=candidates_table(frames),
        test_row=_test_row(frames, run),
    )


def _trial(evidence: Evidence, run: Path) -> pd.Series[Any]:
    """The trial of which the run is, in the search or on a fresh seed."""
    frames = evidence.frames
    fresh = frames.fresh[frames.fresh.run == str(run)]
    number = fresh.number.iloc[0] if len(fresh) else -1
    trials = frames.trials[(frames.trials.run == str(run)) | (frames.trials.number == number)]
    return evidence.winner if trials.empty else trials.iloc[0]


def _sweeper(run: Path) -> dict[str, Any]:
    """The settings of the sweeper, as Hydra records them beside those of a trial."""
    settings: dict[str, Any] = reading.attempt(lambda: reading.read_yaml(run / ".hydra" / "hydra.yaml"), {}, [])
    sweeper = reading.value_at(settings, "hydra.sweeper")
    return sweeper if isinstance(sweeper, dict) else {}


def _class_name(target: Any) -> str:
    return str(target).rpartition(".")[2] if target else "not recorded"


def _range(row: pd.Series[Any], winner: pd.Series[Any]) -> dict[str, str]:
    """A hyperparameter, what was searched, and the value that was chosen."""
    key = str(row.hyperparameter)
    low, high = formatting.format_value(row.low), formatting.format_value(row.high)
    searched = f"{low} to {high}{', by its logarithm' if row.log else ''}"
    if row.choices is not None:
        searched = "one of " + ", ".join(map(formatting.format_value, row.choices))
    elif row.whole:
        searched = f"{row.low:.0f} to {row.high:.0f}, whole numbers"
    return {"key": key, "searched": searched, "chosen": formatting.format_value(winner[f"params.{key}"])}


def _test_row(frames: Frames, run: Path) -> pd.Series[Any] | None:
    """The evaluation of the exported weights on the test set: that of the trial and the seed of the exported run."""
    fresh = frames.fresh[frames.fresh.run == str(run)]
    if fresh.empty or frames.tests.empty:
        return None
    tests = frames.tests[(frames.tests.number == fresh.number.iloc[0]) & (frames.tests.seed == fresh.seed.iloc[0])]
    return None if tests.empty else tests.iloc[-1]

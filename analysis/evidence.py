"""The statistics of one study, each computed once: what the answer and the report are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from cifar.intervals import SHARE, mean_interval
from cifar.objective import ACCURACY, Objective

from .frames import Frames
from .statistics import boundaries, importance
from .statistics.accuracy import accuracy_on_test
from .statistics.budget import best_of_n, budget_scores
from .statistics.curse import measured_curse
from .statistics.model import surrogate_of
from .statistics.noise import binomial_noise
from .statistics.ranking import top_trials
from .surrogate import Noise, Surrogate


@dataclass(frozen=True)
class Evidence:
    """What the statistics say of a study's winner and of the trials of its branch.

    `complete` are the complete trials, best first; the winner, the confirmed one if there is one, is one of these.
    What comes from the surrogate raises StatisticsError where too few trials are complete.
    """

    frames: Frames

    @cached_property
    def complete(self) -> pd.DataFrame:
        complete = self.frames.trials[self.frames.trials.score.notna()]
        return complete.sort_values(["score", "number"], ascending=[False, True])

    @cached_property
    def confirmed(self) -> dict[str, Any]:
        return confirmation(self.frames)

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
        prior = expected_noise(self.frames, self.winner)
        return surrogate_of(self.trials, self.space, reported_curves(self.frames), prior, self.frames.fresh)

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


def confirmation(frames: Frames) -> dict[str, Any]:
    """What fresh seeds and the test set say of the chosen trial; empty where there was no confirmation."""
    curses = measured_curse(frames.fresh)
    if frames.chosen not in curses.number.tolist():
        return {}
    chosen = curses[curses.number == frames.chosen].iloc[0]
    confirmed = {
        "trial": int(chosen.number),
        **true_value(frames, chosen),
        "seeds": int(chosen.seeds),
        "curse": chosen.curse,
        "candidates": curses.to_dict("records"),
    }
    tests = frames.tests.dropna(subset=["accuracy", "images"])
    if tests.empty:
        return confirmed | {"looks": frames.looks}
    tests = tests[tests["look"] == tests["look"].max()]
    latest = accuracy_on_test(tests).iloc[0].to_dict()
    latest |= {"look": frames.looks} | _objective_on_test(frames.objective, tests) | _data_of_test(tests)
    return confirmed | {"test": latest}


def _data_of_test(tests: pd.DataFrame) -> dict[str, Any]:
    """How many of the test images are also training images, of how many; accuracy without these, and without fixes."""
    count, without = tests.also_in_train.max(), tests.accuracy_without_fixes.mean()
    facts: dict[str, Any] = {}
    if pd.notna(count) and count:
        facts |= {"test_also_in_train": int(count), "test_images": int(tests.images.max())}
    if tests.accuracy_without.notna().any():
        facts["test_duplicates"] = int(tests.duplicates.max())
        facts["test_accuracy_without"] = float(tests.accuracy_without.mean())
    return facts | ({"test_accuracy_without_fixes": float(without)} if pd.notna(without) else {})


def _objective_on_test(objective: Objective | None, tests: pd.DataFrame) -> dict[str, Any]:
    """objective: its name, value and interval over the seeds; empty for the accuracy, which is there anyway."""
    if objective in (None, ACCURACY) or tests[objective.name].isna().any():
        return {}
    limits = SHARE if objective.direction == "maximize" else (0.0, np.inf)
    mean, low, high = mean_interval(tests[objective.name], limits)
    name = objective.label.removeprefix("validation ")
    return {"objective": {"name": name, "value": mean, "low": low, "high": high}}


def true_value(frames: Frames, curse: pd.Series[Any]) -> dict[str, float]:
    """mean, low, high: a trial's value without the luck of having been chosen, of which `curse` is a row.

    With runs of this program it is a share, and no more than 1, or a loss, and no less than 0.
    """
    sign = -1 if frames.objectives == ("minimize",) else 1
    scores = (curse.estimate, curse.reported - curse.high, curse.reported - curse.low)
    mean, *ends = sign * np.clip(scores, *frames.score_limits) + 0.0  # + 0.0: no "-0.0000"
    low, high = sorted(ends)
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def expected_noise(frames: Frames, winner: pd.Series[Any]) -> Noise | None:
    """The noise to expect by the number of validation images; None where that number is not known.

    It is that of an accuracy, a share of so many images; nothing is known beforehand of the other objectives.
    """
    if frames.objective is not ACCURACY:
        return None
    images = frames.runs.val_images[frames.runs.run == winner.run].dropna()
    if images.empty or not 0 < winner.value < 1:
        return None
    return binomial_noise(float(winner.value), int(images.iloc[0]))


def reported_curves(frames: Frames) -> pd.DataFrame:
    """number, step, score of every epoch of the trials' runs; empty where these are not of the study's objective."""
    if frames.objective is None or frames.objectives != (frames.objective.direction,):
        return pd.DataFrame(columns=["number", "step", "score"])
    number = dict(zip(frames.trials.run, frames.trials.number, strict=True))
    epochs = frames.epochs[frames.epochs.run.isin(set(number) - {""})]
    return pd.DataFrame({"number": epochs.run.map(number), "step": epochs.epoch, "score": epochs.score})

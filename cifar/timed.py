"""A run with a time (time=10m): plans its steps, corrects them where the pace changes, and keeps the time used."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from cifar.durations import Durations
from cifar.formatting import format_time
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.options.times import in_words, seconds_of
from cifar.options.transfer import Frozen, Pretrained
from cifar.training.device import wait
from cifar.training.plan import TOLERANCE, Pace, measure, steps_left
from cifar.training.trainer import AfterStep, Trainer, no_callback

log = logging.getLogger(__name__)
MEASURED = 0.02
"""The share of the time in which training steps are measured, at most, or two steps; validation has a quarter of it."""
CHECKS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of the time after which the plan is compared with the pace since it was compared last."""
CORRECTED = 0.025
"""The share of the time by which a run may miss it before the number of steps is corrected."""
AFTER_RESUMING = 0.03
"""The share of the time after which it is compared first when a run was resumed, and has done a step: the machine may
be another one."""
MOST, MOST_ON_FEATURES = 1000, 100
"""Epochs at most; of a linear layer on features."""


class Untimed:
    """A run with a number of epochs: a no-op."""

    def begin(self, state: Mapping[str, Any], settings: str = "", after_batch: AfterStep = no_callback) -> None:
        """Plan, or take up the plan in the state of the run that is resumed.

        `settings`: a few that the log names beside the plan. `after_batch` is called while the pace is measured.
        """

    def after_step(self) -> None:
        """Called after every training step: may correct the number of steps."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def facts(self) -> dict[str, Any]:
        """What result.json says of the plan."""
        return {}


class Timekeeper(Untimed):
    """Keeps a run to its time, which is over all its resumptions.

    `durations` are those of the run. `check` is called with the planned number of epochs, before the first step, and
    raises ConfigError where that is too small. `most`: epochs at most.
    """

    def __init__(
        self,
        time: str,
        trainer: Trainer,
        durations: Durations,
        check: Callable[[float], object],
        most: int,
    ) -> None:
        self.time = time
        self.seconds = seconds_of(time)
        self.trainer = trainer
        self.durations = durations
        self.check = check
        self.most = most
        self.clock = trainer.clock
        self.before = 0.0
        self.planned = 0.0
        self.pace = Pace(1.0, 0.0)
        self.is_warm = True
        self.corrections: list[dict[str, Any]] = []

    @property
    def used(self) -> float:
        """Seconds of the time that are used."""
        return self.before + self.clock() - self.start

    @property
    def epochs(self) -> float:
        """Epochs of the plan; the last one may be a part."""
        return self.trainer.steps / len(self.trainer.train)

    def begin(self, state: Mapping[str, Any], settings: str = "", after_batch: AfterStep = no_callback) -> None:
        self.start = self.clock()
        if "timed" in state:
            self._resume(state["timed"])
        else:
            self._plan(settings, after_batch)
        self._mark()

    def _plan(self, settings: str, after_batch: AfterStep) -> None:
        trainer, batches = self.trainer, len(self.trainer.train)
        with self.durations.measuring("measuring"):
            self.pace = measure(trainer, MEASURED * self.seconds, after_batch)
        steps = steps_left(self.seconds - self.used, self.pace, batches, tolerance=TOLERANCE * self.seconds)
        steps = self._at_most(steps)
        self.check(steps / batches)
        trainer.plan(steps)
        self.planned = self.epochs
        self.checks = [share * self.seconds for share in CHECKS]
        of_epoch = self.pace.of_epoch(batches)
        bound = ", the most that such a run has" if self.epochs == self.most else ""
        log.info("%s: %s of %s%s%s", in_words(self.time), _epochs(self.epochs), _seconds(of_epoch), settings, bound)
        if self.epochs < 1:
            log.warning(
                "time=%s: less than one epoch, which takes about %s: too little to learn much, and a run that is killed"
                " before its end is lost; better: a longer time, a smaller image size or network, or transfer=frozen",
                *(self.time, _seconds(of_epoch)),
            )
        least = self.used + self.pace.step + self.pace.epoch
        if least > (1 + CORRECTED) * self.seconds:
            log.warning(
                "time=%s: it takes about %s, as a step of %d images takes %s and validation %s; allowed: a longer time,"
                " a smaller batch_size, image_size or network",
                *(self.time, format_time(least), min(trainer.train.batch_size, len(trainer.train.labels))),
                *(_seconds(self.pace.step), _seconds(self.pace.epoch)),
            )

    def _at_most(self, steps: int) -> int:
        return min(steps, self.most * len(self.trainer.train))

    def _resume(self, state: Mapping[str, Any]) -> None:
        self.before = state["used"]
        self.planned, self.corrections = state["planned"], list(state["corrections"])
        self.pace = Pace(**state["pace"])
        self.is_warm = False
        if self.time != state["time"] and self.trainer.done < self.trainer.total:
            self._correct(self.used)

    def _warm_up(self) -> None:
        """Measure the pace anew: the first step of a run that is resumed chose kernels, compiled and captured."""
        self.is_warm = True
        used = self.used
        checks = used + AFTER_RESUMING * self.seconds, *(share * self.seconds for share in CHECKS)
        self.checks = sorted(check for check in checks if check > used)
        self._mark()

    def _mark(self) -> None:
        """Begin to measure the pace anew."""
        trainer = self.trainer
        self.marked = self.clock(), trainer.steps_done, trainer.done, self._overhead()
        self.half = trainer.steps_done + max((trainer.steps - trainer.steps_done) // 2, 1)

    def _is_due(self) -> bool:
        """Whether the plan is to be compared: at fixed shares, and halfway through what was left, which may be sooner.

        A plan that was shortened by a pause of the machine would else be over before it is compared again.
        """
        is_late = bool(self.checks) and self.used >= self.checks[0]
        return is_late or self.trainer.steps_done >= self.half

    def _overhead(self) -> float:
        """Seconds of validation and saving so far."""
        return sum(self.durations.seconds.get(name, 0.0) for name in ("validation", "saving"))

    def after_step(self) -> None:
        trainer = self.trainer
        if not self.is_warm:
            wait(trainer.train.labels.device)
            self._warm_up()
        if not self._is_due():
            return
        batches = len(trainer.train)
        if trainer.steps_done >= trainer.steps or (trainer.step_of_epoch == batches and batches > 1):
            return
        wait(trainer.train.labels.device)
        used = self.used
        self.checks = [check for check in self.checks if check > used]
        self._measure_again()
        self._correct(used)
        self._mark()

    def _measure_again(self) -> None:
        """The pace since the latest mark."""
        since, steps, epochs, overhead = self.marked
        trainer = self.trainer
        taken, ended = trainer.steps_done - steps, trainer.done - epochs
        besides = self._overhead() - overhead
        step = max(self.clock() - since - besides, 1e-9) / max(taken, 1)
        self.pace = Pace(step, besides / ended if ended else self.pace.epoch * step / self.pace.step)

    def _correct(self, used: float) -> None:
        """Change the number of steps where the run would miss its time by more than CORRECTED."""
        trainer, batches = self.trainer, len(self.trainer.train)
        into = trainer.step_of_epoch
        left = trainer.steps - trainer.steps_done
        validations = math.ceil((into + left) / batches)
        end = used + left * self.pace.step + validations * self.pace.epoch
        if abs(end - self.seconds) <= CORRECTED * self.seconds:
            return
        wanted = steps_left(self.seconds - used, self.pace, batches, into, TOLERANCE * self.seconds)
        wanted = max(self._at_most(trainer.steps_done + wanted) - trainer.steps_done, 1)
        if wanted == left:
            return
        before = self.epochs
        trainer.correct(wanted)
        self.corrections.append({"seconds": round(used, 3), "step": trainer.steps_done, "steps": trainer.steps})
        log.info("%s used: %s in place of %s", format_time(used), _epochs(self.epochs), _epochs(before))

    def state_dict(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "used": self.used,
            "planned": self.planned,
            "corrections": self.corrections,
            "pace": asdict(self.pace),
        }

    def facts(self) -> dict[str, Any]:
        trainer = self.trainer
        plan = {
            "time": self.time,
            "seconds": self.used,
            "planned_epochs": self.planned,
            "steps": trainer.steps,
            "steps_per_epoch": len(trainer.train),
            "whole_epochs": math.ceil(self.epochs),
            "corrections": self.corrections,
            "pace": asdict(self.pace),
        }
        return {"epochs": trainer.total, "plan": plan}


def timekeeper(config: Config, trainer: Trainer, durations: Durations) -> Untimed:
    """That of a run before its first step."""
    if config.time is None:
        return Untimed()
    check = partial(_check_warmup, config, config.time)
    most = MOST_ON_FEATURES if isinstance(config.transfer, Frozen) else MOST
    return Timekeeper(config.time, trainer, durations, check, most)


class PlanError(ConfigError):
    """A setting does not fit the epochs that a time allows: on a faster machine, or with a smaller network, it may."""

    of_one_run = True


def _check_warmup(config: Config, time: str, epochs: float) -> None:
    try:
        config.scheduler.check_warmup(f"time={time}: {_epochs(epochs)}", epochs)
    except ConfigError as error:
        raise PlanError(str(error)) from None


def plan_settings(config: Config, image_size: int) -> str:
    """A few settings that say what is trained, to follow a plan in one line."""
    width = getattr(config.model, "width", None)
    of_model = "" if width is None else f", width {width}"
    size = config.transfer.image_size if isinstance(config.transfer, Pretrained) else image_size
    return f"{of_model}, {size} pixels" if size else of_model  # else that of the weights


def _epochs(epochs: float) -> str:
    """A number of epochs in words."""
    if epochs == 1:
        return "1 epoch"
    return f"{epochs:.0f} epochs" if epochs == round(epochs) else f"{epochs:.3g} epochs"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s"

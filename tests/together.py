"""Runs that take turns in one process, for the tests of lockstep on a CPU and on CUDA."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from cifar import experiment
from cifar.options.config import Config
from cifar.reporting import Coordinator, Diverged, Pruned, Reporter
from cifar.results import read_metrics
from cifar.sweep.lockstep import Lockstep
from cifar.training import checkpoint
from cifar.training.isolation import Isolation


class Turns(Coordinator):
    """Shares the process with the other runs; `act` is called after every step."""

    exclusive = False

    def __init__(self, lockstep: Lockstep, act: Callable[[], None]) -> None:
        self.lockstep, self.act = lockstep, act

    def yield_control(self) -> None:
        self.lockstep.yield_control()
        self.act()

    def run_in_background(self, work: Callable[[], object]) -> None:
        self.lockstep.run_in_background(work)

    def set_capacity(self, runs: float) -> None:
        self.lockstep.set_capacity(runs)


class EndOfEpoch(Reporter):
    """Calls `end` after every epoch."""

    def __init__(self, coordinator: Coordinator, end: Callable[[], None]) -> None:
        self.coordinator, self.end = coordinator, end

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        self.end()


class Together:
    """Runs configs, `size` at a time, in folders by their names; `ended`: how each ended, in order."""

    def __init__(self, size: int, folder: Path, configs: dict[str, Config]) -> None:
        self.lockstep = Lockstep(size, self.serve)
        self.folder, self.waiting = folder, deque(configs.items())
        self.steps: list[str] = []
        self.ended: dict[str, str] = {}
        self.lockstep.run()

    def serve(self) -> None:
        while self.waiting:
            name, config = self.waiting.popleft()
            (self.folder / name).mkdir(parents=True)
            try:
                experiment.run(config, str(self.folder / name), self.reporter(name))
                self.ended[name] = "finished"
            except (Diverged, Pruned, ZeroDivisionError, torch.OutOfMemoryError) as error:
                self.ended[name] = type(error).__name__

    def reporter(self, name: str) -> Reporter:
        def act() -> None:
            self.steps.append(name)
            if name == "failing" and self.steps.count(name) == 2:
                _ = 1 / 0

        def end() -> None:
            if name == "pruned":
                raise Pruned("not worth it")

        return EndOfEpoch(Turns(self.lockstep, act), end)


def assert_equal_runs(one: Path, other: Path, timeless: Callable[[Any], dict[str, Any]]) -> None:
    a, b = ([timeless(m) for m in read_metrics(place / "metrics.csv")] for place in (one, other))
    assert a == b and len(a) > 1
    for name in ("best.pt", "checkpoint.pt"):
        weights, others = (checkpoint.load(place / name)["model"] for place in (one, other))
        assert all(torch.equal(weights[key], others[key]) for key in weights)


def assert_apart(device: torch.device) -> None:
    """A run draws what it would draw alone, whatever another draws meanwhile, and restores the generators."""

    def drawn(meanwhile: Callable[[], object]) -> list[float]:
        with Isolation(device) as run:
            torch.manual_seed(5)
            first = torch.rand(3, device=device)
            with run.paused():
                meanwhile()
            return [*first.tolist(), *torch.rand(3, device=device).tolist()]

    before = checkpoint.random_state()
    alone = drawn(lambda: None)
    assert drawn(lambda: drawn(lambda: None)) == alone and len(set(alone)) == 6
    after = checkpoint.random_state()
    assert all(map(torch.equal, [before["cpu"], *before["cuda"]], [after["cpu"], *after["cuda"]]))

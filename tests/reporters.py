"""Reporters that do something at the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cifar.reporting import Reporter


class Acting(Reporter):
    """Calls `act` after every epoch."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        self.act()


def throw(error: BaseException) -> Acting:
    """A Reporter that raises `error` after epoch 1."""

    def act() -> None:
        raise error

    return Acting(act)

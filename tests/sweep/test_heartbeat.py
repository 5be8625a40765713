from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps import ask, make_study

from cifar.sweep.heartbeat import Heartbeat
from cifar.sweep.study import SharedStudy, heartbeat_of


def heartbeats(study: SharedStudy) -> list[int]:
    return [heartbeat_of(trial)[0] for trial in study.trials()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_heartbeats_are_recorded_while_the_main_thread_is_busy(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    heartbeat = Heartbeat(study, 0.01, lambda: False)
    with heartbeat.running(), heartbeat.of(ask(study)):
        wait_until(lambda: heartbeats(study)[0] > 2)


def test_every_running_trial_of_a_worker_has_heartbeats(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    first, ended, last = ask(study), ask(study), ask(study)
    study.fail(ended, "lost", "asleep")
    heartbeat = Heartbeat(study, 0.01, lambda: False)
    with heartbeat.running(), heartbeat.of(first), heartbeat.of(ended), heartbeat.of(last):
        wait_until(lambda: heartbeats(study)[0] > 2 and heartbeats(study)[2] > 2)
    assert heartbeats(study)[1] == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_the_handlers_come_back(tmp_path: Path, signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    heartbeat = Heartbeat(make_study(tmp_path), 10, lambda: False)
    with heartbeat.running():
        os.kill(os.getpid(), signum)
        assert heartbeat.stop.wait(30)
    assert signal.getsignal(signum) is before


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    heartbeat = Heartbeat(make_study(tmp_path), 10, lambda: False)
    with pytest.raises(KeyboardInterrupt), heartbeat.running():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)


def test_a_worker_stops_when_it_should(tmp_path: Path) -> None:
    heartbeat = Heartbeat(make_study(tmp_path), 0.01, lambda: True)
    with heartbeat.running():
        assert heartbeat.stop.wait(30)


class BusyOnce(SharedStudy):
    """Its storage is busy at the first poll."""

    polls = 0
    polled_again = threading.Event()

    def poll_heartbeats(self, interval: float) -> None:
        self.polls += 1
        if self.polls == 1:
            raise RuntimeError("database is locked")
        self.polled_again.set()


def test_a_storage_that_is_busy_does_not_end_the_heartbeat(tmp_path: Path) -> None:
    study = make_study(tmp_path, kind=BusyOnce)
    assert isinstance(study, BusyOnce)
    with Heartbeat(study, 0.01, lambda: False).running():
        assert study.polled_again.wait(30)


def test_a_folder_that_cannot_be_read_for_a_moment_does_not_end_the_heartbeat(tmp_path: Path) -> None:
    answers = iter([OSError(errno.ESTALE, "Stale file handle"), True])

    def should_stop() -> bool:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    heartbeat = Heartbeat(make_study(tmp_path), 0.01, should_stop)
    with heartbeat.running():
        assert heartbeat.stop.wait(30)

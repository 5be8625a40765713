from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar.sweep.lockstep import Lockstep
from cifar.sweep.logs import of_trial, trial_logs


@pytest.fixture
def worker_log(tmp_path: Path) -> Iterator[Path]:
    """The log file of a worker, as Hydra sets it up."""
    root, path = logging.getLogger(), tmp_path / "worker.log"
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before = list(root.handlers)
    root.handlers[:] = [file]
    yield path
    root.handlers[:] = before
    file.close()


def test_trials_in_turns_log_each_to_its_file_whichever_thread_works_for_it(tmp_path: Path, worker_log: Path) -> None:
    numbers = [0, 1]

    def trial() -> None:
        number = numbers.pop(0)
        folder = tmp_path / str(number)
        folder.mkdir()
        with of_trial(number):
            logs.open(number, folder)
            lockstep.set_capacity(2)
            for call in (lockstep.run_in_background, lambda work: work()):
                lockstep.yield_control()
                call(lambda: logging.warning("of %d", number))
            logs.close_trial(number)
        logging.warning("after %d", number)

    lockstep = Lockstep(2, trial)
    with trial_logs() as logs:
        lockstep.run()
    logging.warning("the end")
    for number in range(2):
        assert (tmp_path / str(number) / "worker.log").read_text() == f"WARNING of {number}\n" * 2
    messages = worker_log.read_text().splitlines()
    assert sorted(messages[:2]) == ["WARNING after 0", "WARNING after 1"] and messages[2:] == ["WARNING the end"]


def test_an_app_that_logs_to_no_file_logs_its_trials_where_it_logs_the_rest(
    tmp_path: Path, worker_log: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = logging.getLogger()
    root.handlers[:] = [caplog.handler]
    with trial_logs() as logs, of_trial(3):
        logs.open(3, tmp_path)
        logging.warning("of 3")
    assert caplog.messages == ["of 3"]
    assert not (tmp_path / "worker.log").read_text()

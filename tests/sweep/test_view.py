"""What is shown of a sweep while it runs: on a terminal, and in optuna-dashboard."""

from __future__ import annotations

import json
import math
import os
import pty
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from sweeps import APP, QUICK, Sweep, ask, make_study

from cifar.sweep import progress
from cifar.sweep import space as spaces
from cifar.sweep.progress import describe, searched, status


def on_a_terminal(folder: Path, *overrides: str, **environment: str) -> str:
    """What a sweep writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, str(APP), "-m", "hydra/sweeper=optuna", *QUICK, *overrides]
    running = subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    with suppress(OSError):  # a terminal whose last writer has gone gives an error instead of an end
        while part := os.read(ours, 4096):
            written += part
    os.close(ours)
    assert running.wait() == 0, written
    return written.decode()


def test_a_terminal_shows_the_progress_in_one_line(tmp_path: Path) -> None:
    written = on_a_terminal(tmp_path, "hydra.sweeper.n_trials=4", "hydra/sweeper/pruner=none", TOY_SECONDS="0.4")
    lines = [line for line in written.split("\r\x1b[K") if " running of 4" in line]
    assert any(line.startswith("0 done, 0 pruned, 0 failed, 1 running of 4") for line in lines)
    assert any(" · best " in line and "min left" in line for line in lines)
    assert lines[-1].startswith("4 done, 0 pruned, 0 failed, 0 running of 4")
    assert written.count("\n") < 4 + 16  # a line a trial, and the table: the live line stays where it is


def test_what_is_searched_is_said_by_the_options_that_trials_draw() -> None:
    entries = {"sgd": {"optimizer.momentum": "interval(0.5, 0.99)"}}
    numbers = ["epochs=range(5,20)", "model.width=range(8,33,8)", "optimizer.lr=tag(log,interval(1e-3,0.1))"]
    parsed = spaces.parse(["optimizer=choice(sgd,adam)", *numbers, "batch_size=32"])
    groups = {"optimizer": ["sgd", "adam"]}
    space = spaces.build(parsed, {}, lambda key: groups.get(key, []), lambda option: entries.get(option, {}))
    assert list(searched(space)) == [
        "searched: optimizer sgd, adam; epochs 5 to 19; model.width 8 to 32 (in steps of 8);"
        " optimizer.lr 0.001 to 0.1 (log)",
        "searched, with optimizer=sgd: optimizer.momentum 0.5 to 0.99",
    ]


def test_a_storage_that_is_busy_does_not_end_the_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "POLL_INTERVAL", 0.01)
    view = progress.View(make_study(tmp_path), lambda best: None)
    shown, failures = threading.Event(), iter([RuntimeError("database is locked")] * 3)

    def show() -> None:
        for failure in failures:
            raise failure
        shown.set()

    monkeypatch.setattr(view, "show", show)
    with view:
        assert shown.wait(30)
    assert caplog.text.count("database is locked") == 1


def test_the_time_left_of_a_resumed_search_counts_what_has_ended_since(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    for outcome in (None, "interrupted"):
        trial = ask(study)
        study.complete(trial, 0.5) if outcome is None else study.fail(trial, outcome, "Ctrl-C")
    view = progress.View(study, lambda best: None)
    assert view.seconds_left(study.trials()) == math.inf
    study.complete(ask(study), 0.5)
    assert 0 < view.seconds_left(study.trials()) < math.inf


@contextmanager
def dashboard(url: str) -> Iterator[str]:
    """optuna-dashboard on a study; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen([program, url, "--port", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def get(address: str) -> Any:
    """What is answered, as soon as there is an answer."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return json.load(answer)
        except OSError:
            assert time.monotonic() < deadline, address
            time.sleep(0.2)


def test_optuna_dashboard_opens_the_study_while_it_runs(tmp_path: Path) -> None:
    long = ("epochs=30", "hydra/sweeper/pruner=none")
    running = Sweep(tmp_path, "hydra.sweeper.n_trials=3", *long, TOY_SECONDS="1")
    metrics = tmp_path / "study" / "0" / "metrics.csv"
    while running.process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.1)
    with dashboard(f"sqlite:///{tmp_path}/study/study.db") as address:
        (study,) = get(f"{address}/api/studies")["study_summaries"]
        trial = get(f"{address}/api/studies/{study['study_id']}")["trials"][0]
    assert running.process.poll() is None
    running.process.terminate()
    running.wait()
    assert study["study_name"] == "cifar10-resnet14-sgd-plateau"
    assert study["directions"] == ["maximize"]
    assert trial["state"] == "Running"
    assert [value["step"] for value in trial["intermediate_values"]][:2] == [1, 2]
    assert {p["name"] for p in trial["params"]} == {"optimizer.lr", "optimizer.momentum", "optimizer.weight_decay"}


def test_the_live_line_counts_by_state_and_names_the_best() -> None:
    lr = {"optimizer.lr": FloatDistribution(0, 1)}
    done = create_trial(value=0.75, params={"optimizer.lr": 0.25}, distributions=lr)
    lost = create_trial(state=TrialState.FAIL, user_attrs={"outcome": "lost", "reason": "worker 3 died"})
    trials = [done, create_trial(state=TrialState.RUNNING), create_trial(state=TrialState.PRUNED, value=0.1), lost]
    line = status(trials, 10, done, 90)
    assert line.startswith("1 done, 1 pruned, 0 failed, 1 running of 10 · best 0.7500 (trial -1: optimizer.lr=0.25)")
    assert line.endswith("2 min left")
    assert "left" not in status(trials, 10, None, float("inf"))
    assert "lost" in describe(lost) and "worker 3 died" in describe(lost)

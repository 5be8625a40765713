"""What runs and studies wrote comes back as tidy frames, whatever state it is in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from sweeps import Sweep

from analysis import schema
from analysis.frames import Frames, FramesError, of_study, read
from cifar.reporting import EpochMetrics
from cifar.results import RunDirectory, summary

CONFIG = "optimizer:\n  _target_: torch.optim.SGD\n  lr: 0.01\nmodel:\n  depths: [1, 1]\nseed: 3\n"


def write_run(folder: Path, epochs: int = 3, status: str = "finished", accuracy: float = 0.5) -> Path:
    """A run directory as the experiment writes it."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(CONFIG)
    history = [EpochMetrics(n, 1.0, 0.4, 1.1, accuracy + n / 100, 0.01, 2.0, 100.0) for n in range(1, epochs + 1)]
    directory = RunDirectory(folder)
    directory.start(history, resumed=True)
    facts: dict[str, Any] = {"started": "2026-11-24T10:00:00+00:00", "epochs": epochs, "seed": 3}
    facts |= {"model": {"parameters": 10, "flops": 20}, "data": {"val": {"images": 500, "fingerprint": "f"}}}
    directory.write_result({"status": status, "message": None} | summary(history) | facts)
    return folder


def new_study(direction: str = "maximize") -> optuna.Study:
    return optuna.create_study(direction=direction, study_name="s")


def conditional(trial: optuna.Trial) -> float:
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adam"])
    lr = trial.suggest_float("lr", *((1e-3, 0.3) if optimizer == "sgd" else (1e-5, 1e-2)), log=True)
    momentum = trial.suggest_float("momentum", 0.5, 0.99) if optimizer == "sgd" else 0.0
    return lr + momentum + trial.suggest_categorical("width", [16, 32])


def check_columns(frame: pd.DataFrame, columns: schema.Columns) -> None:
    assert list(frame.columns)[: len(columns)] == list(columns)
    for name, (dtype, _) in columns.items():
        assert str(frame[name].dtype) == ("object" if dtype == schema.TEXT else dtype), name


def check(result: Frames) -> None:
    for frame, columns in (
        (result.spaces, schema.SPACES),
        (result.trials, schema.TRIALS),
        (result.runs, schema.RUNS),
        (result.epochs, schema.EPOCHS),
        (result.fresh, schema.CONFIRMATION_RUNS),
        (result.tests, schema.TESTS),
    ):
        check_columns(frame, columns)


def test_a_run_is_a_row_and_its_epochs_are_rows(tmp_path: Path) -> None:
    frames = read(write_run(tmp_path / "run"))
    check(frames)
    (run,) = frames.runs.to_dict("records")
    assert (run["status"], run["seed"], run["epochs_done"], run["problem"]) == ("finished", 3, 3, "")
    assert (run["best_epoch"], run["val_accuracy"], run["val_images"]) == (3, 0.53, 500)
    assert (run["config.optimizer.lr"], run["config.model.depths"]) == (0.01, "[1, 1]")
    assert run["train_seconds"] == 6.0 and pd.isna(run["test_accuracy"])
    assert run["started"] == pd.Timestamp("2026-11-24T10:00:00Z")
    assert frames.epochs.val_accuracy.tolist() == [0.51, 0.52, 0.53]
    assert set(frames.epochs.run) == {str(tmp_path / "run")}


def test_a_grid_is_its_runs_in_their_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_run(tmp_path / "multirun" / "date" / str(number))
    names = [Path(run).name for run in read(tmp_path / "multirun").runs.run]
    assert names == ["1", "2", "10"]


def test_damaged_and_half_written_runs_are_listed_with_their_problem(tmp_path: Path) -> None:
    damage = {
        "0": lambda run: None,
        "1": lambda run: (run / "result.json").write_text('{"status": "fin'),
        "2": lambda run: (run / "result.json").unlink(),
        "3": lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1,abc\n"),
        "4": lambda run: (run / "metrics.csv").write_bytes(b"\xff\xfe\x00\n\x80\n"),
        "5": lambda run: (run / ".hydra" / "config.yaml").write_text("a: [\n"),
        "6": lambda run: (run / "result.json").write_text('{"status": 3, "best": "x", "epochs": "many"}'),
        "7": lambda run: (run / "metrics.csv").write_text((run / "metrics.csv").read_text()[:-9]),
        "8": lambda run: (run / "result.json").write_text("[1]"),
    }
    for name, harm in damage.items():
        harm(write_run(tmp_path / name))
    frames = read(tmp_path)
    check(frames)
    problems = dict(zip(damage, frames.runs.problem, strict=True))
    assert len(frames.runs) == len(damage)
    assert all(bool(problems[name]) == (name in "123458") for name in damage), problems
    assert "not JSON" in problems["1"] and "no such file" in problems["2"] and "metrics.csv" in problems["4"]
    assert frames.runs.epochs_done.tolist()[7] == 2, "a last line cut off is left out"


def test_a_study_is_its_trials_with_their_scores(tmp_path: Path) -> None:
    study = new_study("minimize")
    study.optimize(lambda trial: trial.suggest_float("lr", 0.1, 1, log=True), n_trials=3)
    study.ask()
    frames = of_study(study)
    check(frames)
    assert frames.trials.score.tolist()[:3] == [-trial.value for trial in study.trials[:3]]  # type: ignore[operator]
    assert frames.trials.state.tolist() == ["COMPLETE"] * 3 + ["RUNNING"]
    assert frames.objectives == ("minimize",)
    (row,) = frames.spaces.to_dict("records")
    assert (row["hyperparameter"], row["low"], row["high"], row["log"], row["branch"]) == ("lr", 0.1, 1.0, True, "")


def test_a_conditional_space_has_branches_and_columns_with_gaps() -> None:
    study = new_study()
    study.optimize(conditional, n_trials=20)
    frames = of_study(study)
    assert set(frames.trials.branch) == {"optimizer=sgd", "optimizer=adam"}
    adam = frames.trials[frames.trials.branch == "optimizer=adam"]
    assert adam["params.momentum"].isna().all() and adam["params.lr"].notna().all()
    ranges = frames.spaces.set_index(["branch", "hyperparameter"]).high
    assert (ranges["optimizer=sgd", "lr"], ranges["optimizer=adam", "lr"]) == (0.3, 0.01)
    assert ranges["optimizer=adam", "width"] == 32


def test_failed_trials_carry_their_reason_and_pruned_ones_their_last_epoch() -> None:
    study = new_study()
    lost, pruned = study.ask(), study.ask()
    lost.set_user_attr("outcome", "diverged")
    lost.set_user_attr("reason", "the loss is nan")
    study.tell(lost, state=optuna.trial.TrialState.FAIL)
    pruned.report(0.3, 2)
    study.tell(pruned, state=optuna.trial.TrialState.PRUNED)
    trials = of_study(study).trials
    assert trials.outcome.tolist() == ["diverged", "pruned"] and trials.reason[0] == "the loss is nan"
    assert trials.score.isna().all(), "a pruned trial has no final score"
    assert (trials.last_step[1], trials.last_score[1]) == (2, 0.3)


def test_a_sweep_is_read_with_its_runs_while_it_runs_and_once_it_has_ended(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, "hydra.sweeper.n_trials=4", TOY_SECONDS="0.1")
    states: set[str] = set()
    while sweep.process.poll() is None:
        if (tmp_path / "study" / "0" / "metrics.csv").exists():
            states |= set(read(tmp_path / "study").trials.state)
        time.sleep(0.1)
    assert "RUNNING" in states, sweep.wait()
    frames = read(tmp_path / "study")
    check(frames)
    assert len(frames.trials) == len(frames.runs) == 4
    assert frames.trials.run.tolist() == frames.runs.run.tolist()
    (tmp_path / "study" / "study.db").rename(tmp_path / "plain.db")
    assert len(read(f"sqlite:///{tmp_path}/plain.db").trials) == len(read(tmp_path / "plain.db").trials) == 4


def test_a_study_in_a_storage_elsewhere_is_resolved_from_its_runs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    code, output = Sweep(tmp_path, "hydra.sweeper.n_trials=2", f"hydra.sweeper.storage={url}").wait()
    assert code == 0, output
    frames = read(tmp_path / "study")
    assert (len(frames.trials), len(frames.runs)) == (2, 2)


def test_one_of_several_studies_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/many.db"
    for name in ("a", "b"):
        optuna.create_study(storage=url, study_name=name)
    with pytest.raises(FramesError, match="holds 2 studies; allowed: --study a, b"):
        read(url)
    with pytest.raises(FramesError, match="study c: not in"):
        read(url, "c")
    assert read(url, "b").study == "b"


def test_a_place_with_nothing_to_read_is_an_error_and_stays_unchanged(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but a text")
    (tmp_path / "empty.db").touch()
    for place in ("", "/nowhere", "/text.db", "/empty.db"):
        with pytest.raises(FramesError, match=r"allowed|holds no study"):
            read(f"{tmp_path}{place}")
    for url in (f"sqlite:///{tmp_path}/none.db", f"journal:///{tmp_path}/none.log", "nosuch://x/y"):
        with pytest.raises(FramesError, match="holds no study"):
            read(url)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "text.db"]
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_damaged_settings_of_a_sweep_are_an_error_of_one_line(tmp_path: Path) -> None:
    settings = tmp_path / "0" / ".hydra" / "hydra.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("hydra: [\n")
    with pytest.raises(FramesError, match=r"hydra\.yaml: not YAML") as caught:
        read(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_journal_is_read(tmp_path: Path) -> None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "log")))
    optuna.create_study(storage=storage, study_name="j").optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert len(read(f"journal:///{tmp_path}/log").trials) == 2


def test_reading_imports_no_torch(tmp_path: Path, root: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(json.dumps({"status": "running"}))
    code = f"import sys; from analysis.frames import read; read({str(tmp_path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=300).returncode == 0


def test_a_trial_is_read_whatever_users_stored_as_its_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "0")
    study = new_study()
    trials = [study.ask(), study.ask()]
    for trial, folder in zip(trials, ("runs/0", 5), strict=True):
        trial.set_user_attr("folder", folder)
        study.tell(trial, 0.5)
    result = of_study(study, folder=tmp_path)
    check(result)
    assert list(result.trials.run) == [str(tmp_path / "runs" / "0"), ""]
    assert list(result.runs.run) == [str(tmp_path / "runs" / "0")]

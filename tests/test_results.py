"""The run directory: written so that others can read it, whatever happens."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from cifar.files import FileError
from cifar.reporting import EpochMetrics
from cifar.results import STATUSES, ResultsError, RunDirectory, best_of, read_metrics, read_result, summary


def epoch(number: int, val_accuracy: float = 0.5) -> EpochMetrics:
    return EpochMetrics(number, 1 / 3, 0.1 + 0.2, 1e-12, val_accuracy, 3e-4, 12.345678901234567, 1234.5678, 0.1, 0.7)


HISTORY = [epoch(1), epoch(2, 0.7), epoch(3, 0.7), epoch(4, 0.6)]


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_metrics_come_back_exactly(directory: RunDirectory) -> None:
    directory.start([], resumed=False)
    for metrics in HISTORY:
        directory.append(metrics)
        assert read_metrics(directory.metrics)[-1] == metrics, "a row is there as soon as append returns"
    assert read_metrics(directory.metrics) == HISTORY
    assert [type(value) for value in dataclasses.astuple(read_metrics(directory.metrics)[0])] == [int] + [float] * 9


def test_the_columns_are_the_fields(directory: RunDirectory) -> None:
    directory.start(HISTORY, resumed=True)
    with directory.metrics.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [field.name for field in dataclasses.fields(EpochMetrics)]
    assert len(rows) == 5


def test_a_last_line_cut_off_anywhere_is_left_out(directory: RunDirectory) -> None:
    directory.start(HISTORY, resumed=True)
    whole = directory.metrics.read_bytes()
    last = whole.rstrip().rindex(b"\n") + 1
    for end in range(last, len(whole.rstrip())):
        directory.metrics.write_bytes(whole[:end])
        assert read_metrics(directory.metrics) == HISTORY[:3], whole[last:end]


def test_a_file_of_only_its_head_has_no_epochs(directory: RunDirectory) -> None:
    directory.start([], resumed=False)
    assert read_metrics(directory.metrics) == []


def test_resuming_begins_with_the_epochs_done(directory: RunDirectory) -> None:
    directory.start([], resumed=False)
    for metrics in HISTORY:
        directory.append(metrics)
    directory.start(HISTORY[:2], resumed=True)
    directory.append(HISTORY[2])
    assert read_metrics(directory.metrics) == HISTORY[:3]


def test_a_directory_that_holds_a_run_is_refused(directory: RunDirectory) -> None:
    directory.start(HISTORY, resumed=True)
    directory.write_result({"status": "finished"})
    with pytest.raises(ResultsError, match=rf"already holds a run.*resume={directory.path}.*hydra\.run\.dir"):
        directory.start([], resumed=False)
    assert read_metrics(directory.metrics) == HISTORY


def test_result_is_replaced_whole(directory: RunDirectory) -> None:
    for status in STATUSES:
        directory.write_result({"status": status, "best": None})
        assert read_result(directory.path) == {"status": status, "best": None}
    assert [path.name for path in directory.path.iterdir()] == ["result.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    directory = RunDirectory(tmp_path / "file")
    with pytest.raises(FileError, match=r"file/metrics\.csv"):
        directory.append(HISTORY[0])


@pytest.mark.parametrize("content", ["", '{"status": "fin'])
def test_a_result_that_is_not_json_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ResultsError, match=r"result\.json: not JSON"):
        read_result(tmp_path)


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"result\.json: no such file"):
        read_result(tmp_path)


def test_the_best_epoch_is_the_first_of_equals() -> None:
    assert best_of(HISTORY) is HISTORY[1]
    assert best_of([]) is None


def test_the_summary_is_json_of_the_best_and_the_last_epoch() -> None:
    content = json.loads(json.dumps(summary(HISTORY)))
    assert (content["best"]["epoch"], content["last"]["epoch"], content["epochs_done"]) == (2, 4, 4)
    assert content["train_seconds"] == pytest.approx(4 * HISTORY[0].seconds)
    assert summary([])["best"] is None and summary([])["last"] is None

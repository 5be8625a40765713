"""Trackers, with the real packages: what they write is read back with the packages' readers."""

from __future__ import annotations

import configparser
import json
import logging
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, metadata
from together import Together
from wandb.proto.wandb_internal_pb2 import Record

from cifar.experiment import run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.option import ConfigError, groups
from cifar.reporting import NO_REPORTER, Diverged, Pruned, Reporter
from cifar.results import read_metrics, read_result
from cifar.trackers import base
from cifar.trackers.base import TrackedRun, Tracker
from cifar.trackers.mlflow import MLflow
from cifar.trackers.tensorboard import TensorBoard
from cifar.trackers.wandb import WandB

Settings = Callable[..., Config]
ENDS = [
    (None, "finished", "SUCCESS", "FINISHED", 0),
    (Pruned("hopeless"), "pruned", "SUCCESS", "KILLED", 0),
    (Diverged("nan"), "diverged", "FAILURE", "FAILED", 1),
    (RuntimeError("a defect"), "failed", "FAILURE", "FAILED", 1),
    (KeyboardInterrupt(), "interrupted", None, "KILLED", 0),
]
"""What ends a run; its status in result.json, TensorBoard and MLflow; its exit code in W&B."""
LOGGED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second")
LOGGED += ("val_balanced_accuracy", "val_macro_f1")


class Ending(Reporter):
    """Ends a run after its first epoch, unless the error is None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        if self.error is not None:
            raise self.error


def ended(settings: Config, directory: Path, error: BaseException | None = None, study: Path | None = None) -> float:
    """Run until the end, or until `error` is raised after the first epoch; the value, 0 where there is none."""
    directory.mkdir(parents=True, exist_ok=True)
    if error is None:
        return run(settings, str(directory), NO_REPORTER, study and str(study))
    with pytest.raises(type(error)):
        run(settings, str(directory), Ending(error), study and str(study))
    return 0.0


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database. Creating its tables takes a second, so the tests copy it."""
    place = tmp_path_factory.mktemp("mlflow")
    store(place).search_experiments()
    return place / "mlflow.db"


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of a test holds an empty database and nothing else."""
    shutil.copy(empty_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")  # MLflow caches stores by URI


# --- the packages' readers


def events(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory)).Reload()


def hparams(directory: Path) -> tuple[dict[str, Any], str | None]:
    """What the HParams plugin reads of a run: its hyperparameters, and its final status."""
    tags = events(directory).PluginTagToContent(metadata.PLUGIN_NAME)
    assert metadata.EXPERIMENT_TAG not in tags, "it would hide the hyperparameters that other runs have"
    start = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
    values = {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in start.hparams.items()}
    if metadata.SESSION_END_INFO_TAG not in tags:
        return values, None
    end = metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG])
    return values, api_pb2.Status.Name(end.status).removeprefix("STATUS_")


def store(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def runs(folder: Path, experiment: str = "cifar") -> list[Any]:
    """MLflow's runs, oldest first."""
    client = store(folder)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id], order_by=["start_time"])


def history(folder: Path, run_id: str, name: str) -> dict[int, float]:
    """The values of a metric by step; no step may be logged twice."""
    metrics = store(folder).get_metric_history(run_id, name)
    assert len({metric.step for metric in metrics}) == len(metrics)
    return {metric.step: metric.value for metric in metrics}


def records(directory: Path) -> list[Record]:
    """All records of the W&B offline run in a run directory.

    A separate process of W&B writes the file, and finishes it after the run has ended.
    """
    (path,) = directory.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60
    while True:
        complete = [Record.FromString(data) for data in complete_records(path.read_bytes())]
        if any(record.HasField("exit") for record in complete):
            return complete
        assert time.monotonic() < deadline
        time.sleep(0.05)


BLOCK = 32768
"""Bytes. No record of a LevelDB log crosses the end of a block: it is split, and the parts are marked."""


def complete_records(content: bytes) -> Iterator[bytes]:
    """The complete records of a file in the format of LevelDB's log, after W&B's header of 7 bytes."""
    position = 7
    data = b""
    while position + 7 <= len(content):
        left_in_block = BLOCK - position % BLOCK
        if left_in_block < 7:
            position += left_in_block
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        end = position + 7 + length
        if end > len(content):
            return  # this record is still being written
        data += content[position + 7 : end]
        position = end
        if kind in (1, 4):  # a whole record, or its last part
            yield data
            data = b""


Rows = list[tuple[int, dict[str, float]]]


def by_epoch(columns: dict[str, dict[int, float]]) -> Rows:
    """Each epoch with its values by name; `columns` holds the values of each name by epoch."""
    return [(epoch, {name: column[epoch] for name, column in columns.items()}) for epoch in columns[LOGGED[0]]]


def rows_of_tensorboard(directory: Path) -> Rows:
    scalars = events(directory)
    return by_epoch({name: {event.step: event.value for event in scalars.Scalars(name)} for name in LOGGED})


def rows_of_mlflow(directory: Path) -> Rows:
    run_name = str(directory.relative_to(Path.cwd()))
    (tracked,) = (each for each in runs(Path.cwd()) if each.info.run_name == run_name)
    return by_epoch({name: history(Path.cwd(), tracked.info.run_id, name) for name in LOGGED})


def rows_of_wandb(directory: Path) -> Rows:
    rows = [record.history for record in records(directory) if record.HasField("history")]
    values = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in rows]
    return [(row.step.num, {name: value[name] for name in LOGGED}) for row, value in zip(rows, values, strict=True)]


ROWS = {"tensorboard": rows_of_tensorboard, "mlflow": rows_of_mlflow, "wandb": rows_of_wandb}


def assert_has_the_epochs(name: str, directory: Path) -> None:
    """The tracker of this name has logged the rows of metrics.csv."""
    logged = ROWS[name](directory)
    expected = read_metrics(directory / "metrics.csv")
    assert [epoch for epoch, _ in logged] == [metrics.epoch for metrics in expected]
    for (_, values), metrics in zip(logged, expected, strict=True):
        assert values == pytest.approx({name: getattr(metrics, name) for name in LOGGED}, rel=1e-6)


# --- what a run logs in each


@pytest.mark.parametrize("name", ROWS)
def test_each_tracker_has_the_epochs(name: str, settings: Settings, tmp_path: Path) -> None:
    ended(settings(f"tracker={name}"), tmp_path / "run")
    assert_has_the_epochs(name, tmp_path / "run")


def test_interleaved_runs_are_tracked_separately(settings: Settings, tmp_path: Path) -> None:
    both = {f"{name}-{seed}": settings(f"tracker={name}", f"seed={seed}") for name in ROWS for seed in (1, 2)}
    assert Together(6, tmp_path, both).ended == dict.fromkeys(both, "finished")
    for run_name in both:
        assert_has_the_epochs(run_name.partition("-")[0], tmp_path / run_name)


def test_tensorboard_has_the_settings_and_the_figures_at_the_end(settings: Settings, tmp_path: Path) -> None:
    ended(settings("tracker=tensorboard", "augment.flip=true", "test=true"), tmp_path)
    assert not list(tmp_path.glob("*/**/events.*")), "TensorBoard would show a sub-folder as another run"
    scalars = events(tmp_path)
    result = read_result(tmp_path)
    (best,) = scalars.Scalars("best/val_accuracy")
    assert best.value == pytest.approx(result["best"]["val_accuracy"]) and best.step == result["best"]["epoch"]
    (test,) = scalars.Scalars("test/accuracy")
    assert test.value == pytest.approx(result["test"]["accuracy"])
    values, _ = hparams(tmp_path)
    assert values["optimizer.lr"] == 0.01 and values["augment.flip"] is True and values["data.source"] == "digits"
    assert values["model.depths"] == "[1, 1]" and values["data.mean"] == "null"
    assert not [name for name in values if name.split(".")[0] in ("tracker", "cache", "resume")]


def test_hparams_shows_a_sweep_as_a_table_with_the_hyperparameters_of_all_its_runs(
    settings: Settings, tmp_path: Path
) -> None:
    chosen = {"0": ["optimizer=sgd", "optimizer.lr=0.01"], "1": ["optimizer=adam", "optimizer.lr=0.02"]}
    for name, overrides in chosen.items():
        ended(settings("tracker=tensorboard", "epochs=1", *overrides), tmp_path / name, study=tmp_path)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    assert set(multiplexer.Runs()) == {"0", "1"}
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    backend = backend_context.Context(TBContext(data_provider=provider, logdir=str(tmp_path)))
    request = context.RequestContext()
    tags = backend.hparams_metadata(request, "")
    table = backend.experiment_from_metadata(
        request, "", True, tags, backend.hparams_from_data_provider(request, "", 0)
    )
    differing = {info.name for info in table.hparam_infos if info.differs}
    assert {"optimizer._target_", "optimizer.lr"} <= differing and "epochs" not in differing
    assert {"optimizer.momentum", "optimizer.betas"} <= {info.name for info in table.hparam_infos}
    assert {"best/val_accuracy", "val_accuracy"} <= {info.name.tag for info in table.metric_infos}


def test_mlflow_has_the_settings_and_the_figures_at_the_end(settings: Settings, tmp_path: Path) -> None:
    ended(settings("tracker=mlflow", "tracker.experiment=mine", "test=true"), tmp_path / "run")
    (tracked,) = runs(tmp_path, "mine")
    result = read_result(tmp_path / "run")
    assert tracked.data.metrics["best/val_accuracy"] == result["best"]["val_accuracy"]
    assert tracked.data.metrics["test/accuracy"] == result["test"]["accuracy"]
    assert tracked.data.params["optimizer.lr"] == "0.01" and tracked.data.params["model.depths"] == "[1, 1]"
    assert tracked.info.run_name == "run" and "mlflow.parentRunId" not in tracked.data.tags


def test_wandb_has_the_settings_and_the_figures_at_the_end(settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "study" / "0"
    ended(settings("tracker=wandb", "tracker.project=mine"), place, study=tmp_path / "study")
    logged = records(place)
    (tracked,) = (record.run for record in logged if record.HasField("run"))
    assert (tracked.project, tracked.run_group, tracked.display_name) == ("mine", "study", "study/0")
    assert tracked.run_id == (place / base.ID_FILE).read_text()
    logged_settings = {item.key: json.loads(item.value_json) for item in tracked.config.update}
    assert logged_settings["optimizer.lr"] == 0.01 and logged_settings["data.source"] == "digits"
    updates = [item for record in logged if record.HasField("summary") for item in record.summary.update]
    summary = {item.key or item.nested_key[0]: item.value_json for item in updates}
    assert json.loads(summary["best/val_accuracy"]) == read_result(place)["best"]["val_accuracy"]
    assert not (tmp_path / "wandb").exists()


# --- how a run ends and resumes


@pytest.mark.parametrize("error, status, tensorboard, mlflow, code", ENDS, ids=[end[1] for end in ENDS])
def test_each_tracker_receives_the_final_status(
    error: BaseException | None,
    status: str,
    tensorboard: str | None,
    mlflow: str,
    code: int,
    settings: Settings,
    tmp_path: Path,
) -> None:
    for name in ("tensorboard", "mlflow", "wandb"):
        ended(settings("epochs=1", f"tracker={name}"), tmp_path / name, error)
        assert read_result(tmp_path / name)["status"] == status
    assert hparams(tmp_path / "tensorboard")[1] == tensorboard
    assert len(events(tmp_path / "tensorboard").Scalars("best/val_accuracy")) == 1
    (tracked,) = runs(tmp_path)
    assert (tracked.info.status, tracked.data.tags["status"]) == (mlflow, status)
    assert "best/val_accuracy" in tracked.data.metrics
    assert [record.exit.exit_code for record in records(tmp_path / "wandb") if record.HasField("exit")] == [code]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a defect")], ids=["interrupted", "failed"])
def test_a_resumed_run_continues_the_same_tracked_run(error: BaseException, settings: Settings, tmp_path: Path) -> None:
    for name in ("tensorboard", "mlflow"):
        place = tmp_path / name
        ended(settings("epochs=3", f"tracker={name}"), place, error)
        ended(settings("epochs=3", f"tracker={name}", f"resume={place}"), place)
    steps = [event.step for event in events(tmp_path / "tensorboard").Scalars("val_accuracy")]
    assert steps == [1, 2, 3]
    assert hparams(tmp_path / "tensorboard")[1] == "SUCCESS"
    (tracked,) = runs(tmp_path)
    assert tracked.info.status == "FINISHED"
    for metrics in read_metrics(tmp_path / "mlflow" / "metrics.csv"):
        assert history(tmp_path, tracked.info.run_id, "val_loss")[metrics.epoch] == metrics.val_loss


def test_epochs_that_a_tracker_missed_are_logged_when_the_run_resumes(settings: Settings, tmp_path: Path) -> None:
    """The settings change too; MLflow keeps the first value of each."""
    ended(settings("epochs=2", "tracker=none"), tmp_path / "run")
    ended(settings("epochs=3", "tracker=mlflow", f"resume={tmp_path / 'run'}"), tmp_path / "run")
    ended(settings("epochs=4", "tracker=mlflow", f"resume={tmp_path / 'run'}"), tmp_path / "run")
    (tracked,) = runs(tmp_path)
    assert sorted(history(tmp_path, tracked.info.run_id, "lr")) == [1, 2, 3, 4]
    assert tracked.data.params["epochs"] == "3" and tracked.info.status == "FINISHED"


def test_a_trial_retried_in_another_folder_is_the_same_child(settings: Settings, tmp_path: Path) -> None:
    study = tmp_path / "study"
    ended(settings("epochs=3", "tracker=mlflow"), study / "0", KeyboardInterrupt(), study)
    (parent,) = (each for each in runs(tmp_path) if "mlflow.parentRunId" not in each.data.tags)
    assert parent.info.status == "KILLED"
    ended(settings("epochs=3", "tracker=mlflow", f"resume={study / '0'}"), study / "4", study=study)
    parent, child = sorted(runs(tmp_path), key=lambda each: "mlflow.parentRunId" in each.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.run_name, child.info.status, parent.info.status) == ("study/4", "FINISHED", "FINISHED")
    assert sorted(history(tmp_path, child.info.run_id, "val_loss")) == [1, 2, 3]


def test_a_run_resumed_in_another_folder_outside_a_study_is_a_new_run(settings: Settings, tmp_path: Path) -> None:
    ended(settings("epochs=1", "tracker=mlflow"), tmp_path / "a")
    for name in ("b", "c"):
        ended(settings("epochs=2", "tracker=mlflow", f"resume={tmp_path / 'a'}"), tmp_path / name)
    epochs = {each.info.run_name: sorted(history(tmp_path, each.info.run_id, "lr")) for each in runs(tmp_path)}
    assert epochs == {"a": [1], "b": [1, 2], "c": [1, 2]}


# --- sweeps


def test_a_sweep_is_one_parent_run_and_its_trials_are_its_children(
    run_py: Callable[..., subprocess.CompletedProcess[str]],
    tiny: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "mlflow.db").unlink()
    sweep = ["-m", "hydra/sweeper=optuna", "hydra.sweep.dir=s", "hydra/sweeper/pruner=none", *tiny, "tracker=mlflow"]
    for total, workers in ((2, 2), (3, 1)):
        done = run_py(*sweep, f"hydra.sweeper.n_trials={total}", f"hydra.sweeper.n_jobs={workers}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        parent, *children = sorted(runs(tmp_path), key=lambda each: each.info.run_name)
        assert [each.info.run_name for each in (parent, *children)] == [
            "s",
            *(f"s/{number}" for number in range(total)),
        ]
        assert {each.data.tags.get("mlflow.parentRunId") for each in children} == {parent.info.run_id}
        assert {each.info.status for each in (parent, *children)} == {"FINISHED"}
    for child in children:
        folder = tmp_path / child.info.run_name
        assert child.data.metrics["best/val_accuracy"] == read_result(folder)["best"]["val_accuracy"]
        drawn = (folder / ".hydra" / "overrides.yaml").read_text()
        for name in ("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay"):
            assert f"- {name}={child.data.params[name]}\n" in drawn
    assert len({child.data.params["optimizer.lr"] for child in children}) == 3


TRIALS = """
import sys, logging
from pathlib import Path
from cifar.reporting import EpochMetrics
from cifar.trackers.mlflow import MLflow
from cifar.trackers.base import TrackedRun
study, worker = Path(sys.argv[1]), sys.argv[2]
(study / worker).mkdir()
print("ready", flush=True)
sys.stdin.readline()
tracker = MLflow(f"sqlite:///{study.parent}/mlflow.db", "cifar")
tracker.start(TrackedRun(study / worker, study, None, {"worker": worker}, []))
for epoch in range(1, 6):
    tracker.epoch(EpochMetrics(epoch, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0, 1.0))
tracker.end("finished", {"best/val_accuracy": 0.5})
"""


@pytest.mark.slow
def test_workers_that_start_together_create_one_database_and_one_parent(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    (tmp_path / "study").mkdir()
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    workers = [
        subprocess.Popen([sys.executable, "-c", TRIALS, tmp_path / "study", name], cwd=root, text=True, **pipes)
        for name in "012"
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    assert Counter("mlflow.parentRunId" in each.data.tags for each in runs(tmp_path)) == {False: 1, True: 3}
    for each in runs(tmp_path):
        epochs = history(tmp_path, each.info.run_id, "val_loss")
        assert len(epochs) == (5 if "mlflow.parentRunId" in each.data.tags else 0)


# --- errors


@pytest.mark.parametrize("method", ["start", "epoch", "end"])
@pytest.mark.parametrize("kind", [TensorBoard, MLflow, WandB])
def test_a_tracker_that_fails_costs_one_warning_and_not_the_run(
    kind: type[Tracker],
    method: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def fail(self: Tracker, *arguments: Any) -> None:
        calls.append(method)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kind, method, fail)
    expected = ended(settings(), tmp_path / "plain")
    value = ended(settings(f"tracker={kind.__name__.lower()}"), tmp_path / "run")
    assert value == expected and read_result(tmp_path / "run")["status"] == "finished"
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == len(calls) == 1
    assert kind.__name__ in warnings[0] and "No space left on device" in warnings[0]


def test_an_unreachable_server_costs_one_warning_and_not_the_run(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ended(settings("tracker=mlflow", "tracker.uri=http://127.0.0.1:9"), tmp_path)
    assert read_result(tmp_path)["status"] == "finished"
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) == 1


def test_a_tracker_that_fails_does_not_hide_the_error_of_the_run(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MLflow, "end", lambda self, status, figures: 1 / 0)
    ended(settings("tracker=mlflow"), tmp_path, RuntimeError("a defect"))
    assert read_result(tmp_path)["message"] == "RuntimeError: a defect"


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_an_error_before_work_starts(
    name: str, compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose(f"tracker={name}")
    (tmp_path / "wandb").mkdir()  # a folder of that name, as W&B creates one, is not the package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=rf"tracker={name}: .*pip install -e '\.\[{name}\]'"):
        check(cfg)


def test_the_package_that_an_option_needs_has_an_extra(root: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    packages = {option.package for group in groups().values() for option in group.options.values()} - {""}
    assert {"tensorboard", "mlflow", "wandb"} <= packages
    for package in packages:
        assert setup["options.extras_require"][package].split()[0].startswith(f"{package}>=")


@pytest.mark.parametrize(
    "override, allowed", [("tracker.uri=nonsense", "sqlite:///FILE"), ("tracker.experiment=null", "a text")]
)
def test_invalid_settings_of_mlflow_are_errors(override: str, allowed: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}.*{allowed}"):
        check(compose("tracker=mlflow", override))


def test_wandb_is_offline_or_online(compose: Any) -> None:
    with pytest.raises(ConfigError, match=r"tracker\.mode=maybe: not allowed; allowed: offline, online"):
        check(compose("tracker=wandb", "tracker.mode=maybe"))


def test_identities_are_kept_inherited_and_otherwise_new(tmp_path: Path) -> None:
    for name in ("s/0", "s/1", "s/2"):
        (tmp_path / name).mkdir(parents=True)
    place, study = tmp_path / "s", tmp_path / "s"
    first = TrackedRun(place / "0", study, None, {}, []).identity
    assert TrackedRun(place / "0", study, None, {}, []).identity == first
    assert TrackedRun(place / "1", study, place / "0", {}, []).identity == first
    assert TrackedRun(place / "2", None, place / "0", {}, []).identity != first

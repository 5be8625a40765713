"""Trackers, with the real packages: what they write is read back with their own readers."""

from __future__ import annotations

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
from cifar.trackers.base import Run, Tracker
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
"""What ends a run, and its status in result.json, TensorBoard, MLflow; the exit code in W&B."""
LOGGED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds", "images_per_second")


class Ending(Reporter):
    """Ends a run after its first epoch, unless the error is None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def report(self, step: int, metrics: float | Mapping[str, float]) -> None:
        if self.error is not None:
            raise self.error


def ended(settings: Config, directory: Path, error: BaseException | None = None, study: Path | None = None) -> float:
    """A run that ends in its own way; its value, 0 where it has none."""
    directory.mkdir(parents=True, exist_ok=True)
    if error is None:
        return run(settings, str(directory), NO_REPORTER, study and str(study))
    with pytest.raises(type(error)):
        run(settings, str(directory), Ending(error), study and str(study))
    return 0.0


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of MLflow's: they take a second to make, so the tests copy them."""
    place = tmp_path_factory.mktemp("mlflow")
    store(place).search_experiments()
    return place / "mlflow.db"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory of a test is empty but for a database."""
    shutil.copy(empty_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")  # MLflow remembers by address


# --- the trackers' own readers


def events(directory: Path) -> EventAccumulator:
    return EventAccumulator(str(directory)).Reload()


def hparams(directory: Path) -> tuple[dict[str, Any], str | None]:
    """What the HParams plugin reads of a run: its hyperparameters, and how it ended."""
    tags = events(directory).PluginTagToContent(metadata.PLUGIN_NAME)
    assert metadata.EXPERIMENT_TAG not in tags, "it would hide the hyperparameters that other runs have"
    begun = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
    values = {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in begun.hparams.items()}
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
    """A metric by its steps, each of which there must be once."""
    found = store(folder).get_metric_history(run_id, name)
    assert len({metric.step for metric in found}) == len(found)
    return {metric.step: metric.value for metric in found}


def records(directory: Path) -> list[Record]:
    """All that a W&B offline run in a run directory holds: a file in the format of LevelDB's log.

    A process of W&B's own writes it, and the last of it after the run has ended.
    """
    (path,) = directory.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60
    while True:
        found = [Record.FromString(data) for data in whole(path.read_bytes())]
        if any(record.HasField("exit") for record in found):
            return found
        assert time.monotonic() < deadline
        time.sleep(0.05)


def whole(content: bytes) -> Iterator[bytes]:
    """The records of a log of LevelDB, which are cut at blocks of 32 KiB; its own head has 7 bytes."""
    at, data = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if at + 7 + length > len(content):
            return  # it is being written
        data += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield data
            data = b""


Rows = list[tuple[int, dict[str, float]]]


def by_epoch(columns: dict[str, dict[int, float]]) -> Rows:
    """Each epoch with its values by name, from each name's values by epoch."""
    return [(epoch, {name: column[epoch] for name, column in columns.items()}) for epoch in columns[LOGGED[0]]]


def rows_of_tensorboard(directory: Path) -> Rows:
    scalars = events(directory)
    return by_epoch({name: {event.step: event.value for event in scalars.Scalars(name)} for name in LOGGED})


def rows_of_mlflow(directory: Path) -> Rows:
    (found,) = (r for r in runs(Path.cwd()) if r.info.run_name == str(directory.relative_to(Path.cwd())))
    return by_epoch({name: history(Path.cwd(), found.info.run_id, name) for name in LOGGED})


def rows_of_wandb(directory: Path) -> Rows:
    rows = [record.history for record in records(directory) if record.HasField("history")]
    values = [{item.key or item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in rows]
    return [(row.step.num, {name: value[name] for name in LOGGED}) for row, value in zip(rows, values, strict=True)]


ROWS = {"tensorboard": rows_of_tensorboard, "mlflow": rows_of_mlflow, "wandb": rows_of_wandb}


def assert_has_the_epochs(name: str, directory: Path) -> None:
    """What the tracker of this name has of a run is what metrics.csv has."""
    found, expected = ROWS[name](directory), read_metrics(directory / "metrics.csv")
    assert [epoch for epoch, _ in found] == [metrics.epoch for metrics in expected]
    for (_, values), metrics in zip(found, expected, strict=True):
        assert values == pytest.approx({name: getattr(metrics, name) for name in LOGGED}, rel=1e-6)


# --- what a run leaves in each


@pytest.mark.parametrize("name", ROWS)
def test_each_tracker_has_the_epochs(name: str, settings: Settings, tmp_path: Path) -> None:
    ended(settings(f"tracker={name}"), tmp_path / "run")
    assert_has_the_epochs(name, tmp_path / "run")


def test_runs_in_turns_are_tracked_apart(settings: Settings, tmp_path: Path) -> None:
    both = {f"{name}-{seed}": settings(f"tracker={name}", f"seed={seed}") for name in ROWS for seed in (1, 2)}
    assert Together(6, tmp_path, both).ended == dict.fromkeys(both, "finished")
    for run_name in both:
        assert_has_the_epochs(run_name.partition("-")[0], tmp_path / run_name)


def test_tensorboard_has_the_settings_and_the_figures_at_the_end(settings: Settings, tmp_path: Path) -> None:
    ended(settings("tracker=tensorboard", "data.flip=true", "test=true"), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "a sub-folder would be a run of its own"
    scalars, result = events(tmp_path), read_result(tmp_path)
    (best,) = scalars.Scalars("best/val_accuracy")
    assert best.value == pytest.approx(result["best"]["val_accuracy"]) and best.step == result["best"]["epoch"]
    (test,) = scalars.Scalars("test/accuracy")
    assert test.value == pytest.approx(result["test"]["accuracy"])
    values, _ = hparams(tmp_path)
    assert values["optimizer.lr"] == 0.01 and values["data.flip"] is True and values["data.source"] == "digits"
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
    (found,) = runs(tmp_path, "mine")
    result = read_result(tmp_path / "run")
    assert found.data.metrics["best/val_accuracy"] == result["best"]["val_accuracy"]
    assert found.data.metrics["test/accuracy"] == result["test"]["accuracy"]
    assert found.data.params["optimizer.lr"] == "0.01" and found.data.params["model.depths"] == "[1, 1]"
    assert found.info.run_name == "run" and "mlflow.parentRunId" not in found.data.tags


def test_wandb_has_the_settings_and_the_figures_at_the_end(settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "study" / "0"
    ended(settings("tracker=wandb", "tracker.project=mine"), place, study=tmp_path / "study")
    found = records(place)
    (begun,) = (record.run for record in found if record.HasField("run"))
    assert (begun.project, begun.run_group, begun.display_name) == ("mine", "study", "study/0")
    assert begun.run_id == (place / base.IDENTITY).read_text()
    told = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert told["optimizer.lr"] == 0.01 and told["data.source"] == "digits"
    summary = {i.key or i.nested_key[0]: i.value_json for r in found if r.HasField("summary") for i in r.summary.update}
    assert json.loads(summary["best/val_accuracy"]) == read_result(place)["best"]["val_accuracy"]
    assert not (tmp_path / "wandb").exists()


# --- how a run ends, and goes on


@pytest.mark.parametrize("error, status, tensorboard, mlflow, code", ENDS, ids=[end[1] for end in ENDS])
def test_each_tracker_hears_how_a_run_ends(
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
    (found,) = runs(tmp_path)
    assert (found.info.status, found.data.tags["status"]) == (mlflow, status)
    assert "best/val_accuracy" in found.data.metrics
    assert [record.exit.exit_code for record in records(tmp_path / "wandb") if record.HasField("exit")] == [code]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a defect")], ids=["interrupted", "failed"])
def test_a_resumed_run_goes_on_in_the_same_run(error: BaseException, settings: Settings, tmp_path: Path) -> None:
    for name in ("tensorboard", "mlflow"):
        place = tmp_path / name
        ended(settings("epochs=3", f"tracker={name}"), place, error)
        ended(settings("epochs=3", f"tracker={name}", f"resume={place}"), place)
    steps = [event.step for event in events(tmp_path / "tensorboard").Scalars("val_accuracy")]
    assert steps == [1, 2, 3]
    assert hparams(tmp_path / "tensorboard")[1] == "SUCCESS"
    (found,) = runs(tmp_path)
    assert found.info.status == "FINISHED"
    for metrics in read_metrics(tmp_path / "mlflow" / "metrics.csv"):
        assert history(tmp_path, found.info.run_id, "val_loss")[metrics.epoch] == metrics.val_loss


def test_what_a_tracker_missed_is_told_when_the_run_goes_on(settings: Settings, tmp_path: Path) -> None:
    """With other settings too, of which MLflow keeps the first."""
    ended(settings("epochs=2", "tracker=none"), tmp_path / "run")
    ended(settings("epochs=3", "tracker=mlflow", f"resume={tmp_path / 'run'}"), tmp_path / "run")
    ended(settings("epochs=4", "tracker=mlflow", f"resume={tmp_path / 'run'}"), tmp_path / "run")
    (found,) = runs(tmp_path)
    assert sorted(history(tmp_path, found.info.run_id, "lr")) == [1, 2, 3, 4]
    assert found.data.params["epochs"] == "3" and found.info.status == "FINISHED"


def test_a_trial_that_is_tried_again_in_another_folder_is_the_same_child(settings: Settings, tmp_path: Path) -> None:
    study = tmp_path / "study"
    ended(settings("epochs=3", "tracker=mlflow"), study / "0", KeyboardInterrupt(), study)
    (parent,) = (r for r in runs(tmp_path) if "mlflow.parentRunId" not in r.data.tags)
    assert parent.info.status == "KILLED"
    ended(settings("epochs=3", "tracker=mlflow", f"resume={study / '0'}"), study / "4", study=study)
    parent, child = sorted(runs(tmp_path), key=lambda r: "mlflow.parentRunId" in r.data.tags)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.run_name, child.info.status, parent.info.status) == ("study/4", "FINISHED", "FINISHED")
    assert sorted(history(tmp_path, child.info.run_id, "val_loss")) == [1, 2, 3]


def test_a_run_that_goes_on_elsewhere_on_its_own_is_another_run(settings: Settings, tmp_path: Path) -> None:
    ended(settings("epochs=1", "tracker=mlflow"), tmp_path / "a")
    for name in ("b", "c"):
        ended(settings("epochs=2", "tracker=mlflow", f"resume={tmp_path / 'a'}"), tmp_path / name)
    found = {r.info.run_name: history(tmp_path, r.info.run_id, "lr") for r in runs(tmp_path)}
    assert {name: sorted(steps) for name, steps in found.items()} == {"a": [1], "b": [1, 2], "c": [1, 2]}


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
        parent, *children = sorted(runs(tmp_path), key=lambda r: r.info.run_name)
        assert [r.info.run_name for r in (parent, *children)] == ["s", *(f"s/{number}" for number in range(total))]
        assert {r.data.tags.get("mlflow.parentRunId") for r in children} == {parent.info.run_id}
        assert {r.info.status for r in (parent, *children)} == {"FINISHED"}
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
from cifar.trackers.base import Run
study, worker = Path(sys.argv[1]), sys.argv[2]
(study / worker).mkdir()
print("ready", flush=True)
sys.stdin.readline()
tracker = MLflow(f"sqlite:///{study.parent}/mlflow.db", "cifar")
tracker.start(Run(study / worker, study, None, {"worker": worker}, []))
for epoch in range(1, 6):
    tracker.epoch(EpochMetrics(epoch, 1.0, 0.5, 1.0, 0.5, 0.1, 1.0, 1.0))
tracker.end("finished", {"best/val_accuracy": 0.5})
"""


def test_workers_that_start_at_once_make_one_database_and_one_parent(root: Path, tmp_path: Path) -> None:
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
    assert Counter("mlflow.parentRunId" in r.data.tags for r in runs(tmp_path)) == {False: 1, True: 3}
    for found in runs(tmp_path):
        steps = history(tmp_path, found.info.run_id, "val_loss")
        assert len(steps) == (5 if "mlflow.parentRunId" in found.data.tags else 0)


# --- what goes wrong


@pytest.mark.parametrize("what", ["start", "epoch", "end"])
@pytest.mark.parametrize("kind", [TensorBoard, MLflow, WandB])
def test_a_tracker_that_fails_costs_one_warning_and_not_the_run(
    kind: type[Tracker],
    what: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def fail(self: Tracker, *about: Any) -> None:
        calls.append(what)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kind, what, fail)
    expected = ended(settings(), tmp_path / "plain")
    found = ended(settings(f"tracker={kind.__name__.lower()}"), tmp_path / "run")
    assert found == expected and read_result(tmp_path / "run")["status"] == "finished"
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == len(calls) == 1
    assert kind.__name__ in warnings[0] and "No space left on device" in warnings[0]


def test_a_server_that_is_gone_costs_one_warning_and_not_the_run(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ended(settings("tracker=mlflow", "tracker.uri=http://127.0.0.1:9"), tmp_path)
    assert read_result(tmp_path)["status"] == "finished"
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


def test_a_tracker_that_fails_does_not_hide_why_the_run_did(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MLflow, "end", lambda self, status, figures: 1 / 0)
    ended(settings("tracker=mlflow"), tmp_path, RuntimeError("a defect"))
    assert read_result(tmp_path)["message"] == "RuntimeError: a defect"


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_package_that_is_missing_is_told_before_work_starts(
    name: str, compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose(f"tracker={name}")
    (tmp_path / "wandb").mkdir()  # a folder, as W&B leaves one, is not the package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=rf"tracker={name}: .*pip install -e '\.\[{name}\]'"):
        check(cfg)


def test_the_extras_are_of_the_packages_that_are_asked_for(root: Path) -> None:
    lines = (root / "setup.cfg").read_text().splitlines()
    for package in {option.package for option in groups()["tracker"].options.values()} - {""}:
        assert lines[lines.index(f"{package} =") + 1].strip().startswith(f"{package}>=")


@pytest.mark.parametrize(
    "override, allowed", [("tracker.uri=nonsense", "sqlite:///FILE"), ("tracker.experiment=null", "a text")]
)
def test_settings_of_mlflow_that_cannot_be_are_refused(override: str, allowed: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=f"{override.split('=')[0]}.*{allowed}"):
        check(compose("tracker=mlflow", override))


def test_wandb_is_offline_or_online(compose: Any) -> None:
    with pytest.raises(ConfigError, match=r"tracker\.mode=maybe: not allowed; allowed: offline, online"):
        check(compose("tracker=wandb", "tracker.mode=maybe"))


def test_identities_are_kept_inherited_and_otherwise_new(tmp_path: Path) -> None:
    for name in ("s/0", "s/1", "s/2"):
        (tmp_path / name).mkdir(parents=True)
    place, study = tmp_path / "s", tmp_path / "s"
    first = Run(place / "0", study, None, {}, []).identity
    assert Run(place / "0", study, None, {}, []).identity == first
    assert Run(place / "1", study, place / "0", {}, []).identity == first
    assert Run(place / "2", None, place / "0", {}, []).identity != first

"""Trackers: TensorBoard, MLflow, Weights & Biases, told of what metrics.csv tells. Each imports its package late.

A tracker looks on. `Watched` sees to it that one that fails (a full disk, a server that is gone) costs a warning and
never the run.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cifar.files import write_atomically
from cifar.results import EpochMetrics

log = logging.getLogger(__name__)
IDENTITY = "tracker.id"
"""The file in a run's or a study's folder by which the servers' run and this one stay the same."""


@dataclass(frozen=True)
class Run:
    """A run at its start, or where it goes on: its settings by full key, and its epochs so far.

    `study` is the folder of the sweep that it is a trial of, `resumed` the run directory that it goes on with.
    """

    directory: Path
    study: Path | None
    resumed: Path | None
    settings: dict[str, Any]
    history: list[EpochMetrics]

    @property
    def identity(self) -> str:
        """Kept when a run goes on in its folder, and when a sweep goes on with a trial in the folder of another."""
        retried = self.resumed is not None and self.study in self.resumed.parents
        return identity(self.directory, self.resumed if retried else None)


class Tracker:
    """Hears of a run from its start to its end; this one tells nobody."""

    def start(self, run: Run) -> None:
        """Begin a run, or go on with the one of that identity."""

    def epoch(self, metrics: EpochMetrics) -> None:
        """Take note of an epoch that comes after those of the run's history."""

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        """The run has ended, with a status of cifar.results, and so well."""


class Watched(Tracker):
    """Passes all on to another tracker, until that fails."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def start(self, run: Run) -> None:
        self._tell("start", run)

    def epoch(self, metrics: EpochMetrics) -> None:
        self._tell("epoch", metrics)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self._tell("end", status, figures)

    def _tell(self, what: str, *about: Any) -> None:
        try:
            getattr(self.tracker, what)(*about)
        except Exception as error:
            name, reason = type(self.tracker).__name__, f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("%s failed, so this run is not tracked any further; its own files are whole (%s)", name, reason)
            self.tracker = Tracker()


class TensorBoard(Tracker):
    """Event files in the run directory, so that TensorBoard's runs are the folders.

    The HParams plugin reads the columns of its table from all runs together: where no file describes the experiment,
    each run may have other hyperparameters.
    """

    STATUS = {"finished": "SUCCESS", "pruned": "SUCCESS", "diverged": "FAILURE", "failed": "FAILURE"}  # noqa: RUF012

    def start(self, run: Run) -> None:
        from google.protobuf.struct_pb2 import Struct
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo
        from torch.utils.tensorboard import SummaryWriter

        for file in run.directory.glob("events.out.tfevents.*"):
            file.unlink()  # of two ends TensorBoard would believe the first; the history is told again
        self.writer: Any = SummaryWriter(str(run.directory), purge_step=0)  # for one that has read the old file
        values = Struct()
        values.update(run.settings)
        self._hparams(session_start_info=SessionStartInfo(hparams=values.fields, start_time_secs=time.time()))
        for metrics in run.history:
            self.epoch(metrics)
        self.writer.flush()

    def epoch(self, metrics: EpochMetrics) -> None:
        self._scalars(measured(metrics), metrics.epoch)
        self.writer.flush()

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

        self._scalars(figures, int(figures.get("best/epoch", 0)))
        self.writer.add_text("status", status)
        if status in self.STATUS:  # one that is interrupted is to go on
            value = Status.Value(f"STATUS_{self.STATUS[status]}")
            self._hparams(session_end_info=SessionEndInfo(status=value, end_time_secs=time.time()))
        self.writer.close()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def _hparams(self, **info: Any) -> None:
        """Write what torch's add_hparams does, but without a sub-folder, with the status, and bools as such."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        (name,) = info
        about = metadata.create_summary_metadata(HParamsPluginData(**info))
        value = Summary.Value(tag=f"_hparams_/{name}", metadata=about)
        self.writer.file_writer.add_summary(Summary(value=[value]))


class MLflow(Tracker):
    """Runs in MLflow, found again by a tag. A sweep is a parent run, which whichever trial comes first makes.

    MLflow lets no parameter be changed: those that a resumed run has with other values stay as they were. The parent
    runs while a trial is known to run and has ended when the last to end has.
    """

    STATUS = {"finished": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED"}  # noqa: RUF012
    TAG = "cifar.id"

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        self.parent: str | None = None

    def start(self, run: Run) -> None:
        from filelock import FileLock

        self.client, experiment = self._connect()
        tags = {}
        if run.study:
            with FileLock(run.study / ".tracker.lock"):
                self.parent = self._find_or_make(experiment, run.study, identity(run.study), {})
            tags = {"mlflow.parentRunId": self.parent}
        self.run = self._find_or_make(experiment, run.directory, run.identity, tags)
        self._params(run.settings)
        known = {metric.step for metric in self.client.get_metric_history(self.run, "val_accuracy")}
        for metrics in run.history:
            if metrics.epoch not in known:
                self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        self._metrics(measured(metrics), metrics.epoch)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self._metrics(figures, int(figures.get("best/epoch", 0)))
        self.client.set_tag(self.run, "status", status)
        self.client.set_terminated(self.run, self.STATUS.get(status, "FAILED"))
        if self.parent:
            self.client.set_terminated(self.parent, "KILLED" if status == "interrupted" else "FINISHED")

    def _connect(self) -> tuple[Any, str]:
        """A client, and the number of the experiment. The processes of a sweep do not make the tables at once."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of a server that is gone; 7 take minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # s
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of the tables that it makes
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # and this of every attempt
        with _sole(self.uri):
            client: Any = MlflowClient(self.uri)
            if client.get_experiment_by_name(self.experiment) is None:
                with suppress(MlflowException):  # another machine was faster
                    client.create_experiment(self.experiment)
            return client, client.get_experiment_by_name(self.experiment).experiment_id

    def _find_or_make(self, experiment: str, folder: Path, identity: str, tags: dict[str, str]) -> str:
        """The id of the run of this identity, which runs now."""
        found = self.client.search_runs([experiment], f"tags.`{self.TAG}` = '{identity}'")
        run = found[0] if found else self.client.create_run(experiment, tags=tags | {self.TAG: identity})
        self.client.update_run(run.info.run_id, status="RUNNING", name=shown(folder))
        return str(run.info.run_id)

    def _params(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        known = self.client.get_run(self.run).data.params
        self.client.log_batch(self.run, params=[Param(k, str(v)) for k, v in settings.items() if k not in known])

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run, [Metric(name, value, now, step) for name, value in values.items()])


class WandB(Tracker):
    """Weights & Biases: a folder wandb/ in the run directory, to be sent with `wandb sync`; or online, at once."""

    def __init__(self, project: str, mode: str) -> None:
        self.project = project
        self.mode: Any = mode

    def start(self, run: Run) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.run = wandb.init(
            project=self.project,
            mode=self.mode,
            dir=run.directory,
            id=run.identity,
            resume="allow",
            name=shown(run.directory),
            group=shown(run.study) if run.study else None,
            config=run.settings,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, init_timeout=20),
        )
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        self.run.log(measured(metrics), step=metrics.epoch)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self.run.summary.update({**figures, "status": status})
        self.run.finish(exit_code=int(status in ("diverged", "failed")))


def measured(metrics: EpochMetrics) -> dict[str, float]:
    """What was measured in an epoch, by the columns of metrics.csv."""
    return {name: value for name, value in asdict(metrics).items() if name != "epoch"}


def identity(folder: Path, inherited: Path | None = None) -> str:
    """The name, unique in the world, of the run or study in a folder: its own, that of another folder, or a new one."""
    files = [place / IDENTITY for place in (folder, inherited) if place]
    found = next((file.read_text("utf-8") for file in files if file.exists()), uuid.uuid4().hex)
    write_atomically(files[0], lambda file: file.write(found.encode()))
    return found


def shown(folder: Path) -> str:
    """A folder as one in the working directory names it."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def _sole(uri: str) -> AbstractContextManager[Any]:
    """Held by one process of this machine at a time, where the database is a file."""
    from filelock import FileLock

    path = uri.partition("?")[0].removeprefix("sqlite:///")
    return FileLock(f"{path}.lock") if uri.startswith("sqlite:///") else nullcontext()

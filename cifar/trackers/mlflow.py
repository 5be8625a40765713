"""MLflow."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from cifar.reporting import EpochMetrics
from cifar.trackers.base import TrackedRun, Tracker, display_name, identity, measured

MLFLOW_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED"}
"""MLflow's status for each status of a run; for every other one it is FAILED."""
ID_TAG = "cifar.id"
"""The tag that holds the identity of a run or study, by which its MLflow run is searched."""


class MLflow(Tracker):
    """Logs to MLflow. A sweep is a parent run, its trials are child runs; the first trial to start creates the parent.

    MLflow does not allow a parameter to change: where a resumed run has another value, the first one stays. The parent
    has status RUNNING from the start of a trial, and is terminated at the end of each.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        self.experiment = experiment
        self.parent: str | None = None

    def start(self, run: TrackedRun) -> None:
        from filelock import FileLock

        self.client = self._connect()
        self.experiment_id = self._get_or_create_experiment()
        tags = {}
        if run.study:
            with FileLock(run.study / ".tracker.lock"):  # else two trials that start together create a parent each
                self.parent = self._get_or_create_run(run.study, identity(run.study), {})
            tags = {"mlflow.parentRunId": self.parent}
        self.run = self._get_or_create_run(run.directory, run.identity, tags)
        self._log_params(run.settings)
        logged = {metric.step for metric in self.client.get_metric_history(self.run, "val_accuracy")}
        for metrics in run.history:
            if metrics.epoch not in logged:
                self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        self._log_metrics(measured(metrics), metrics.epoch)

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        self._log_metrics(figures, int(figures.get("best/epoch", 0)))
        self.client.set_tag(self.run, "status", status)
        self.client.set_terminated(self.run, MLFLOW_STATUS.get(status, "FAILED"))
        if self.parent:
            self.client.set_terminated(self.parent, "KILLED" if status == "interrupted" else "FINISHED")

    def _connect(self) -> Any:
        """An MlflowClient; for a new database it creates the tables, so one process at a time may do that."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # where the server cannot be reached, MLflow's default of 7 retries takes minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # else it logs every table that it creates
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # else it logs every retry
        with _process_lock(self.uri):
            return MlflowClient(self.uri)

    def _get_or_create_experiment(self) -> str:
        """The id of the experiment named `self.experiment`."""
        from mlflow.exceptions import MlflowException

        with _process_lock(self.uri):
            if self.client.get_experiment_by_name(self.experiment) is None:
                with suppress(MlflowException):  # another machine has created it in the meantime
                    self.client.create_experiment(self.experiment)
            return str(self.client.get_experiment_by_name(self.experiment).experiment_id)

    def _get_or_create_run(self, folder: Path, identity: str, tags: Mapping[str, str]) -> str:
        """The id of the MLflow run of this identity, now with status RUNNING."""
        matching = self.client.search_runs([self.experiment_id], f"tags.`{ID_TAG}` = '{identity}'")
        run = matching[0] if matching else self.client.create_run(self.experiment_id, tags={**tags, ID_TAG: identity})
        self.client.update_run(run.info.run_id, status="RUNNING", name=display_name(folder))
        return str(run.info.run_id)

    def _log_params(self, settings: Mapping[str, bool | float | str]) -> None:
        from mlflow.entities import Param

        logged = self.client.get_run(self.run).data.params
        params = [Param(key, str(value)) for key, value in settings.items() if key not in logged]
        self.client.log_batch(self.run, params=params)

    def _log_metrics(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)  # MLflow counts in milliseconds
        self.client.log_batch(self.run, [Metric(name, value, now, step) for name, value in values.items()])


def _process_lock(uri: str) -> AbstractContextManager[Any]:
    """Where the database is an SQLite file: a lock that one process of this machine holds at a time."""
    from filelock import FileLock

    if not uri.startswith("sqlite:///"):
        return nullcontext()
    path = uri.partition("?")[0].removeprefix("sqlite:///")
    return FileLock(f"{path}.lock")

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
from cifar.trackers.base import Run, Tracker, identity, measured, shown


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


def _sole(uri: str) -> AbstractContextManager[Any]:
    """Held by one process of this machine at a time, where the database is a file."""
    from filelock import FileLock

    path = uri.partition("?")[0].removeprefix("sqlite:///")
    return FileLock(f"{path}.lock") if uri.startswith("sqlite:///") else nullcontext()

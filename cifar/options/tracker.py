"""config group tracker: where a run is logged beside its own files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from cifar.options.fields import matching, one_of
from cifar.options.option import Option
from cifar.options.outside import database


@dataclass
class Tracker(Option):
    """An experiment tracker; its target is called with the other keys."""

    group: ClassVar[str] = "tracker"

    _target_: str = MISSING

    def written(self) -> dict[str, str | None]:
        """Files that it writes beside the run directory, by the key that names them."""
        return {}


@dataclass
class NoTracker(Tracker):
    """No tracker: a run's own files (metrics.csv, result.json) hold everything."""

    _target_: str = "cifar.trackers.base.Tracker"


@dataclass
class TensorBoard(Tracker):
    """TensorBoard: event files in the run directory; curves by epoch, a sweep as a table in HParams."""

    package = "tensorboard"
    _target_: str = "cifar.trackers.tensorboard.TensorBoard"


@dataclass
class MLflow(Tracker):
    """MLflow: a run, or a sweep as a parent run and its trials as children, in a database on disk or on a server."""

    package = "mlflow"
    _target_: str = "cifar.trackers.mlflow.MLflow"
    uri: str = matching(
        r"(sqlite|postgresql|mysql|mssql|https?)[+\w]*://.+|databricks.*",
        "sqlite:///FILE, http://HOST:PORT, databricks",
    )
    experiment: str = MISSING

    def written(self) -> dict[str, str | None]:
        return {"tracker.uri": database(self.uri)}


@dataclass
class WandB(Tracker):
    """Weights & Biases: written to the run directory, without a network; a sweep is a group."""

    package = "wandb"
    _target_: str = "cifar.trackers.wandb.WandB"
    project: str = MISSING
    mode: str = one_of("offline", "online")

"""TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cifar.reporting import EpochMetrics
from cifar.trackers.base import Run, Tracker, measured


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

"""TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cifar.reporting import EpochMetrics
from cifar.trackers.base import TrackedRun, Tracker, measured

HPARAMS_STATUS = {"finished": "SUCCESS", "pruned": "SUCCESS", "diverged": "FAILURE", "failed": "FAILURE"}
"""The HParams plugin's status for each status of a run. An interrupted run has none: it can be resumed."""


class TensorBoard(Tracker):
    """Writes event files to the run directory, so each run directory is one run in TensorBoard.

    The HParams plugin builds the columns of its table from all runs together, as long as no event file describes the
    whole experiment. So each run may have other hyperparameters.
    """

    def start(self, run: TrackedRun) -> None:
        from google.protobuf.struct_pb2 import Struct
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo
        from torch.utils.tensorboard import SummaryWriter

        for file in run.directory.glob("events.out.tfevents.*"):
            file.unlink()  # of two end records TensorBoard uses the first; the history is written again below
        # purge_step discards the old events in a TensorBoard that has already read the old file
        self.writer: Any = SummaryWriter(str(run.directory), purge_step=0)
        settings = Struct()
        settings.update(run.settings)
        self._write_hparams(session_start_info=SessionStartInfo(hparams=settings.fields, start_time_secs=time.time()))
        for metrics in run.history:
            self.epoch(metrics)
        self.writer.flush()

    def epoch(self, metrics: EpochMetrics) -> None:
        self._write_scalars(measured(metrics), metrics.epoch)
        self.writer.flush()

    def end(self, status: str, figures: Mapping[str, float]) -> None:
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

        self._write_scalars(figures, int(figures.get("best/epoch", 0)))
        self.writer.add_text("status", status)
        if status in HPARAMS_STATUS:
            value = Status.Value(f"STATUS_{HPARAMS_STATUS[status]}")
            self._write_hparams(session_end_info=SessionEndInfo(status=value, end_time_secs=time.time()))
        self.writer.close()

    def _write_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def _write_hparams(self, **info: Any) -> None:
        """Write one record of the HParams plugin: the start or the end of a session.

        It does the work of torch's add_hparams, which writes to a sub-folder, writes no status, and turns bools into
        numbers.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        (name,) = info
        description = metadata.create_summary_metadata(HParamsPluginData(**info))
        value = Summary.Value(tag=f"_hparams_/{name}", metadata=description)
        self.writer.file_writer.add_summary(Summary(value=[value]))

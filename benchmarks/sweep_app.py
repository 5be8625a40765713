"""run.py with a sleep in place of the training, for the sweep benchmarks: momentum decides how long it takes.

A trial takes APP_SECONDS to ten times that, and writes when and where it ran; `hydra/sweeper=stock` is the sweeper of
hydra-optuna-sweeper as it comes.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf
from omegaconf import DictConfig

from cifar.layout import CONF
from cifar.options.option import whitelist
from cifar.reporting import NO_REPORTER, EpochMetrics, Reporter
from cifar.results import RunDirectory, read_metrics
from cifar.search import APP
from cifar.sweep import plugin

plugin.register(APP)
ConfigStore.instance().store(group="hydra/sweeper", name="stock", node=OptunaSweeperConf, provider="benchmarks")
EPOCHS = 5


@hydra.main(config_path=str(CONF), config_name="config", execution_whitelist=whitelist())
def main(cfg: DictConfig, reporter: Reporter = NO_REPORTER) -> float:
    begun = time.time()
    directory = RunDirectory(HydraConfig.get().runtime.output_dir)
    earlier = read_metrics(Path(cfg.resume) / "metrics.csv") if cfg.resume else []
    directory.start(earlier, resumed=cfg.resume is not None)
    seconds = float(os.environ.get("APP_SECONDS", "0")) * 10 ** (cfg.optimizer.momentum / 0.9) / EPOCHS
    quality = 1 - abs(cfg.optimizer.lr - 0.03)
    for epoch in range(len(earlier) + 1, EPOCHS + 1):
        time.sleep(seconds)
        metrics = EpochMetrics(epoch, 1.0, 0.5, 1.0, quality * epoch / EPOCHS, 0.1, seconds, 1.0)
        directory.append(metrics)
        (directory.path / "checkpoint.pt").touch()
        reporter.report(epoch, metrics.val_accuracy)
    span = {"pid": os.getpid(), "begun": begun, "ended": time.time()}
    (directory.path / "span.json").write_text(json.dumps(span), "utf-8")
    return quality


if __name__ == "__main__":
    main()

"""run.py with a toy in place of the training: a curve by epoch that depends on lr, and files as a run writes them.

TOY_SECONDS: of each epoch. TOY_FAULT: raise, raise_high (where lr is above 0.1), refuse (by a UserError), diverge,
kill (once, in epoch 2).
TOY_LUCK: what a larger weight decay gains, on seed 0 alone.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parent.parent))

from cifar.content import content_of
from cifar.errors import UserError
from cifar.layout import CONF
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.option import whitelist
from cifar.reporting import NO_REPORTER, Diverged, EpochMetrics, Reporter
from cifar.results import RunDirectory, read_metrics
from cifar.search import APP
from cifar.sweep import plugin

plugin.register(APP)
SECONDS = float(os.environ.get("TOY_SECONDS", "0"))
FAULT = os.environ.get("TOY_FAULT", "")
LUCK = float(os.environ.get("TOY_LUCK", "0"))
IMAGES: dict[str, dict[str, Any]] = {}
"""By data.root: what a run records of its images, as result.json holds it. Tests in this process fill it."""


@hydra.main(config_path=str(CONF), config_name="config", execution_whitelist=whitelist())
def main(cfg: DictConfig, reporter: Reporter = NO_REPORTER) -> float:
    settings = check(cfg)
    directory = RunDirectory(HydraConfig.get().runtime.output_dir)
    earlier = read_metrics(Path(settings.resume) / "metrics.csv") if settings.resume else []
    directory.start(earlier, resumed=bool(settings.resume))
    images = images_of(settings)
    if images:
        reporter.identify(content_of({"data": images}))
    lr = settings.optimizer.lr
    luck = LUCK * settings.optimizer.weight_decay / 0.01 if settings.seed == 0 else settings.seed / 1e4
    quality = 0.8 * lr / (lr + 0.05) + luck
    for epoch in range(len(earlier) + 1, settings.epochs + 1):
        misbehave(lr, epoch, directory.path.parent / "killed")
        time.sleep(SECONDS)
        reporter.coordinator.yield_control()
        metrics = EpochMetrics(epoch, 1.0, 0.5, 1.0, quality * epoch / settings.epochs, 0.1, SECONDS, 1.0)
        directory.append(metrics)
        (directory.path / "checkpoint.pt").touch()
        reporter.coordinator.set_capacity(math.inf)
        reporter.report(epoch, metrics.val_accuracy)
    tested = {"test": {"accuracy": quality / 2, "images": 1000}} if settings.test else {}
    directory.write_result({"status": "finished", "resumed_after": len(earlier), "data": images} | tested)
    return quality


def images_of(settings: Config) -> dict[str, Any]:
    """What the run records of its images; those of each split are others."""
    images = IMAGES.get(settings.data.root or "", {})
    split = {"fingerprint": f"{images.get('fingerprint')}, split {settings.data.val_seed}"}
    return images | {part: images[part] | split for part in ("train", "val") if images}


def misbehave(lr: float, epoch: int, killed: Path) -> None:
    """Fail as TOY_FAULT says."""
    if FAULT == "raise" or (FAULT == "raise_high" and lr > 0.1):
        raise RuntimeError(f"lr {lr} is too high")
    if FAULT == "refuse":
        raise UserError("the images are not there")
    if FAULT == "diverge":
        raise Diverged("the loss is nan in epoch 1")
    if FAULT == "kill" and epoch == 2 and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()

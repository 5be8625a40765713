"""A descent of the sphere function that reports every step, so that poor trials are pruned.

python app_with_reporter.py -m hydra/sweeper=optuna "rate=tag(log,interval(1e-3,0.5))"
"""

from __future__ import annotations

import time

import hydra
from omegaconf import DictConfig

from cifar.reporting import NO_REPORTER, Reporter
from cifar.sweep import plugin
from cifar.sweep.app import SearchedApp

plugin.register(SearchedApp(metrics={"value": "minimize"}, epochs_key="steps"))


@hydra.main(config_path="conf", config_name="config")
def main(cfg: DictConfig, reporter: Reporter = NO_REPORTER) -> float:
    x, y = cfg.x, cfg.y
    for step in range(1, cfg.steps + 1):
        time.sleep(cfg.seconds)
        x -= cfg.rate * 2 * (x - 1)
        y -= cfg.rate * 2 * y
        reporter.report(step, {"value": (x - 1) ** 2 + y**2, "x": x, "y": y})
    return float((x - 1) ** 2 + y**2)


if __name__ == "__main__":
    main()

"""The sphere function as a Hydra app. `plugin.register()` is all that it needs to be searched.

python app.py -m hydra/sweeper=optuna "x=interval(-5,5)" "y=interval(-5,5)"
"""

from __future__ import annotations

import time

import hydra
from omegaconf import DictConfig

from cifar.sweep import plugin

plugin.register()


@hydra.main(config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    time.sleep(cfg.seconds)
    return float((cfg.x - 1) ** 2 + cfg.y**2)


if __name__ == "__main__":
    main()

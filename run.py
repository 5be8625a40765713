"""Train one configuration, or sweep over many: python run.py --help"""

from __future__ import annotations

import os
import sys
import traceback

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar import search
from cifar.options import config
from cifar.reporting import NO_REPORTER, Interrupted, Reporter
from cifar.sweep import best, plugin

OmegaConf.register_resolver("cifar_help", config.help_text)
plugin.register(search.APP)


@hydra.main(config_path="conf", config_name="config", execution_whitelist=())
def main(cfg: DictConfig, reporter: Reporter = NO_REPORTER) -> float:
    """Train one configuration in Hydra's run directory; return the best validation accuracy."""
    settings = config.check(cfg)
    from cifar.experiment import run  # after the check: a bad setting is told before torch is imported

    job = HydraConfig.get()
    study = job.sweep.dir if job.mode == RunMode.MULTIRUN else None
    return run(settings, job.runtime.output_dir, reporter, study)


def command_line() -> None:
    """Run main; an error that is the user's to mend becomes one line and exit code 1, any other keeps its traceback."""
    if "HYDRA_FULL_ERROR" in os.environ:
        return main()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra formats the exceptions, and they cannot be told here
    try:
        sys.argv[1:] = best.expand(config.with_inherited(sys.argv[1:]))
        main()
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.signum)
    except Exception as error:
        message = one_line(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")


def one_line(error: Exception) -> str | None:
    """What the user has to know of an error, or None for a defect of the program."""
    if isinstance(error, CompactHydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        return config.explain(error.__cause__)
    if isinstance(error, OmegaConfBaseException):
        return config.explain(error)
    if isinstance(error, CompactHydraException) or type(error).__module__.startswith(("cifar.", "analysis.")):
        return str(error).strip()
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    raised_in = list(traceback.walk_tb(error.__traceback__))[-1][0].f_globals["__name__"]
    return str(error) if raised_in.startswith("hydra.") else None


if __name__ == "__main__":
    command_line()

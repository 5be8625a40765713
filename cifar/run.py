"""What run.py and cifar-search do: train one configuration, or search hyperparameters.

Hydra names its logs after this module: run.log.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar import endings
from cifar.errors import UserError
from cifar.layout import CONF
from cifar.options.check import as_used, check, explain
from cifar.options.command_line import check_study, prepared
from cifar.options.from_run import check_from_run
from cifar.options.help import help_text
from cifar.options.hydra_private import record
from cifar.options.outside import check_outside
from cifar.options.resume import check_resume
from cifar.reporting import NO_REPORTER, Interrupted, Reporter
from cifar.search import APP
from cifar.sweep import plugin

OmegaConf.register_resolver("cifar_help", help_text)
plugin.register(APP)


@hydra.main(config_path=str(CONF), config_name="config", execution_whitelist=())
def main(cfg: DictConfig, reporter: Reporter = NO_REPORTER) -> float:
    """Train one configuration in Hydra's run directory; return the objective of its best epoch."""
    config = check(cfg)
    check_resume(config)
    check_from_run(config)
    check_study(config, list(HydraConfig.get().overrides.task))
    from cifar.experiment import run  # after the check: a wrong setting is reported before torch is imported

    job = HydraConfig.get()
    study = job.sweep.dir if job.mode == RunMode.MULTIRUN else None
    place = Path(job.runtime.output_dir)
    check_outside(config.data.never_written, {"hydra.run.dir" if study is None else "hydra.sweep.dir": place})
    with endings.unlogged_refusals(place) if reporter is NO_REPORTER else nullcontext():  # trials share their handlers
        return run(config, str(place), reporter, study, settings=record(as_used(cfg, config)))


def start() -> None:
    """Run main with what resume=, from_study=, from_run= and trust= add, wherever they are given."""
    with prepared():
        main()


def command_line() -> None:
    """Start. An error that the user can fix becomes one line and exit code 1; any other keeps its traceback."""
    if "HYDRA_FULL_ERROR" in os.environ:
        return start()
    folders = endings.NewFolders()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra prints the exceptions itself, and they do not arrive here
    try:
        start()
    except Interrupted as error:
        folders.remove_unused()
        endings.exit_interrupted(error, error.signum)
    except (Exception, KeyboardInterrupt) as error:
        is_interrupted = endings.CTRL_C.pressed  # a library may have made another error of it
        message = None if is_interrupted else one_line(error)
        folders.remove_unused()
        if message is None and not is_interrupted:
            raise
        if is_interrupted:
            endings.exit_interrupted()
        sys.exit(f"error: {message}")


def _quoted(setting: str | None) -> str:
    """How to write a setting with letters that Hydra takes only in quotes, as those with an accent."""
    key, _, value = (setting or "").partition("=")
    return "" if value.isascii() or "'" in value else f"; here: \"{key}='{value}'\""


def one_line(error: BaseException) -> str | None:
    """What the user needs to know of an error, or None for a defect of the program."""
    cause = error.__cause__
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException) and cause.msg is not None:
        return explain(cause)
    if isinstance(error, OmegaConfBaseException):
        return explain(error)
    if isinstance(error, OverrideParseException):
        reason = " ".join(error.message.splitlines()[1:-1])
        return (
            f"{error.override}: not a setting ({reason}); allowed: KEY=VALUE without spaces around =, and"
            " \"KEY='VALUE'\" for a value with spaces, commas, parentheses or ="
            + _quoted(error.override)
            + ("; KEY=null,0.9 in place of choice(null, 0.9)" if "NoneType is incompatible" in reason else "")
        )
    if isinstance(error, UserError) and error.several_lines:
        return str(error)
    if isinstance(error, (UserError, HydraException)):
        return " ".join(str(error).partition("\nConfig search path:")[0].split())
    if raised_by_logging(error):
        reasons = "; ".join(dict.fromkeys(" ".join(str(e).split()) for e in (error, error.__cause__) if e is not None))
        return f"hydra.job_logging, hydra.hydra_logging, hydra.verbose: logging cannot be set up so: {reasons}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (yaml.YAMLError, UnicodeDecodeError)):
        return f"a config file cannot be read: {' '.join(str(error).split())}"
    return str(error) if raised_by_hydra(error) else None


def raised_by_hydra(error: BaseException) -> bool:
    """Whether a module of Hydra raised it: what is wrong with a command line is a plain ValueError or RuntimeError."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return str(innermost.f_globals["__name__"]).startswith("hydra.")


def raised_by_logging(error: BaseException) -> bool:
    """Whether hydra.job_logging or hydra.hydra_logging cannot be applied: Python's logging raises a ValueError."""
    return any(frame.f_code is configure_log.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))

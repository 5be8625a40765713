"""The last step before a start: the settings are checked, and a run or a grid gets a directory that no other has.

Hydra makes the directory afterwards, so a start that is refused here changes nothing.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from itertools import count
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from cifar import overrides
from cifar.commands import override
from cifar.options.check import check, of_launcher
from cifar.options.data import ImageFolder
from cifar.options.from_run import check_from_run
from cifar.options.hydra_private import NO_RECORD, Composition
from cifar.options.option import ConfigError
from cifar.options.outside import check_outside, database
from cifar.options.resume import check_resume
from cifar.options.shared import parse
from cifar.overrides import key_of
from cifar.results import ResultsError, check_free, same_directory


def claim(start: Composition) -> list[Override]:
    """Check a start and make its directory where the name is made of the time; a second one of a second gets NAME-1."""
    if not start.starts:
        return start.overrides
    _check_record(start)
    check_known("hydra", start.config.hydra)
    if start.mode == RunMode.RUN:
        _claim_run(start.config)
        return start.overrides
    return _claim_grid(start)


def _check_record(start: Composition) -> None:
    """Raises ConfigError where the settings of a run would not be in .hydra/, from which it is resumed and reported."""
    lines = [str(line.input_line) for line in start.overrides if key_of(line) == "hydra.output_subdir"]
    for line in lines:
        if line != NO_RECORD:
            raise ConfigError(f"{line}: not allowed, as runs are resumed and reported from .hydra/; leave it out")


def check_known(key: str, node: DictConfig) -> None:
    """Raises ConfigError for a key that Hydra does not have: with + it is added, and nothing reads it.

    The settings of a search are left to it: it knows the arguments of its sampler and its pruner.
    """
    kind = OmegaConf.get_type(node)
    if not is_dataclass(kind) or str(node.get("_target_", "")).startswith("cifar.sweep."):
        return
    plain = OmegaConf.to_container(node, resolve=False)
    assert isinstance(plain, dict)
    names = {field.name for field in fields(kind)}
    if key == "hydra":  # hydra/env is a group without a field
        names |= {str(group).split("/")[1] for group in node.runtime.choices if str(group).startswith("hydra/")}
    for name in map(str, plain):
        if name not in names:
            allowed = ", ".join(sorted(names - {"_target_"})) or "none"
            raise ConfigError(f"{key}.{name}: no such setting; allowed: {allowed}{of_launcher(f'{key}.{name}')}")
        if isinstance(plain[name], dict):
            check_known(f"{key}.{name}", node[name])


def _claim_run(cfg: DictConfig) -> None:
    """Raises UserError where the settings are not allowed or the directory holds another run."""
    config = check(cfg)
    check_resume(config)
    check_from_run(config)
    directory = _directory(cfg, "run")
    if directory is None:
        return
    check_outside(config.data.never_written, {"hydra.run.dir": directory})
    if _is_timed(cfg, "run"):
        with read_write(cfg.hydra.run):
            claimed = _new_directory(directory)
            if claimed != directory:
                cfg.hydra.run.dir = str(claimed)
    elif config.resume is None or not same_directory(Path(config.resume), directory):
        check_free(directory)


def _claim_grid(start: Composition) -> list[Override]:
    """Raises ResultsError where the directory holds another grid."""
    cfg = start.config
    directory = _directory(cfg, "sweep")
    outputs = {"hydra.sweep.dir": directory, "hydra.sweeper.storage": database(cfg.hydra.sweeper.get("storage"))}
    for folder in _folders(start):
        check_outside(folder, outputs)
    if directory is None or str(cfg.hydra.sweeper.get("_target_")).startswith("cifar.sweep."):
        return start.overrides  # a search resumes in its folder
    first = _first_job(start, directory)
    if _is_timed(cfg, "sweep"):
        claimed = _new_directory(directory)
        if claimed != directory:
            return [*start.overrides, *parse([override("hydra.sweep.dir", claimed)], claimed)]
    elif _template(cfg, "sweep", "subdir") == "${hydra.job.num}" and (directory / "0" / "result.json").exists():
        raise ResultsError(f"{directory} already holds a grid of runs; choose another hydra.sweep.dir")
    else:
        check_free(directory)
        check_free(first)
    return start.overrides


def _folders(start: Composition) -> list[str]:
    """The folders of images of a grid or a search, where they are one, or listed: each job is checked again."""
    data = start.config.get("data", {})
    if data.get("source") != ImageFolder.source:
        return []
    swept = [line for line in start.overrides if key_of(line) == "data.root" and line.is_sweep_override()]
    if swept and swept[-1].is_choice_sweep():
        return [str(overrides.from_text(text)) for text in swept[-1].sweep_string_iterator()]
    return [] if OmegaConf.is_missing(data, "root") or data.root is None else [str(data.root)]


def _first_job(start: Composition, sweep: Path) -> Path:
    """The directory of the first job of a grid. Raises UserError where its settings are not allowed.

    Otherwise that would be seen in the job, when Hydra has replaced the multirun.yaml of a grid that is there.
    """
    params = OmegaConf.to_container(start.config.hydra.sweeper.get("params") or OmegaConf.create(), resolve=True)
    assert isinstance(params, dict)
    task = [line for line in start.overrides if not key_of(line).startswith(("hydra.", "hydra/"))]
    lines = [*(f"{key!s}={value}" for key, value in params.items()), *(str(line.input_line) for line in task)]
    swept = overrides.parse(lines, start.loader)
    job = start.loader.load_sweep_config(start.config, [_first_value(line) for line in swept])
    with open_dict(job), read_write(job):
        job.hydra.job.id, job.hydra.job.num = "0", 0
    instance, former = HydraConfig.instance(), HydraConfig.instance().cfg
    instance.set_config(job)
    try:
        directory = sweep / str(job.hydra.sweep.subdir)
        with open_dict(job.hydra.runtime), read_write(job.hydra.runtime):
            job.hydra.runtime.output_dir = str(directory.absolute())
        check_from_run(check(job))
    finally:
        instance.cfg = former
    return directory


def _first_value(line: Override) -> str:
    """The override of the first job of a sweep."""
    if not line.is_sweep_override():
        return str(line.input_line)
    return f"{line.get_key_element()}={next(iter(line.sweep_string_iterator()), '')}"


def _template(cfg: DictConfig, part: str, key: str = "dir") -> str:
    """A directory of hydra.run or hydra.sweep, as it is written."""
    settings = OmegaConf.to_container(cfg.hydra[part], resolve=False)
    assert isinstance(settings, dict)
    return str(settings[key])


def _is_timed(cfg: DictConfig, part: str) -> bool:
    return "${now:" in _template(cfg, part)


def _directory(cfg: DictConfig, part: str) -> Path | None:
    """The directory of hydra.run or hydra.sweep; None where it depends on what is known only in the job."""
    try:
        return Path(str(OmegaConf.select(cfg, f"hydra.{part}.dir")))
    except (OmegaConfBaseException, ValueError):
        return None


def _new_directory(path: Path) -> Path:
    """Make `path`, or the first of NAME-1, NAME-2, ... that is not there; of several processes each makes another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count():
        candidate = path.with_name(f"{path.name}-{number}") if number else path
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise AssertionError

"""The plan of a search: its settings, its space and its name, all decided and checked before the study is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution

from cifar.errors import UserError
from cifar.sweep import names
from cifar.sweep import space as spaces
from cifar.sweep.app import Invocation, SearchedApp, quoted
from cifar.sweep.content import Known
from cifar.sweep.lockstep import MAX_CONCURRENT_RUNS
from cifar.sweep.names import is_given
from cifar.sweep.optuna_private import load_config_file, with_snapshot
from cifar.sweep.space import Space, SpaceError
from cifar.sweep.worker import grid

LIMITS = {
    "n_trials": (1, math.inf),
    "n_jobs": (1, math.inf),
    "trials_per_worker": (1, MAX_CONCURRENT_RUNS),
    "max_failure_rate": (0, 1),
    "max_deaths": (1, math.inf),
    "heartbeat": (0.1, 3600),
    "top": (1, math.inf),
    "seeds": (1, math.inf),
}
"""The least and the greatest value of settings below hydra.sweeper."""


class SweepError(UserError):
    """A search that cannot be started as it is configured, or that failed as a whole."""


@dataclass(frozen=True)
class Plan:
    """What is searched, how and where. `url` is the storage's.

    `fixed` are the settings that no trial changes; `options` are those that a drawn option of a config group adds.
    `contents`: what the search was trained on that this one confirms.
    """

    config: DictConfig
    space: Space
    fixed: dict[str, Any]
    options: dict[str, Any]
    url: str
    folder: Path
    contents: list[Known] = field(default_factory=list)

    @property
    def settings(self) -> DictConfig:
        settings: DictConfig = self.config.hydra.sweeper
        return settings


def check_settings(hydra: DictConfig, app: SearchedApp) -> None:
    """Raises SweepError for a setting of Hydra or of the sweeper that is not allowed."""
    settings = hydra.sweeper
    direction(settings, app)
    if hydra.job.chdir:
        raise SweepError("hydra.job.chdir=true: not allowed, the trials of a search share a process; allowed: false")
    for key, (low, high) in LIMITS.items():
        if key in settings and not low <= settings[key] <= high:
            raise SweepError(f"hydra.sweeper.{key}={settings[key]}: not allowed; allowed: from {low} to {high}")


def direction(settings: DictConfig, app: SearchedApp) -> str:
    """minimize or maximize: that of the settings, else that of the app's metric. Raises SweepError for any other."""
    value = app.direction if settings.direction is None else settings.direction
    name = str(getattr(value, "name", value))
    if name not in ("minimize", "maximize"):
        raise SweepError(f"hydra.sweeper.direction={value}: not supported; allowed: maximize, minimize")
    return name


def at_start(call: Invocation) -> Invocation:
    """The same start, which composes every trial from the config files as they are now."""
    loader = with_snapshot(call.context.config_loader)
    return replace(call, context=replace(call.context, config_loader=loader))


def make_plan(call: Invocation) -> Plan:
    """Complete the settings, build the space, and check both.

    Raises SpaceError for a space that cannot be searched, SweepError for settings that are not allowed in a search.
    """
    config, app = call.config, call.app
    space = build_space(call)
    search_option = space.fixed.pop("search", None)
    check_keys(space, config, app)
    name = config.hydra.sweeper.study_name or names.of_study(call, space)
    total = total_of(config.hydra.sweeper, space)
    config = complete(call, name, f"sweeps/{name}", total)
    if search_option:
        config.hydra.overrides.hydra.append(search_option)  # shapes hydra.sweeper, which all trials must share
    folder = Path(config.hydra.sweep.dir).resolve()
    url = config.hydra.sweeper.storage or f"sqlite:///{folder / 'study.db'}"
    check_space(call, config, space)
    fixed = fixed_settings(call, config, space)
    return Plan(config, space, fixed, option_settings(call, config, space, fixed), str(url), folder)


def build_space(call: Invocation) -> Space:
    """What hydra.sweeper.params, the command line and the files of conf/search say, in order of precedence."""
    params = call.config.hydra.sweeper.params or {}
    of_settings = spaces.parse([f"{key}={value}" for key, value in params.items()])
    explicit = merged(of_settings, spaces.parse(call.arguments))
    choices = {
        group: str(option)
        for group, option in call.config.hydra.runtime.choices.items()
        if option is not None and not group.startswith("hydra/") and group != "search"
    }
    group_options = call.context.config_loader.get_group_options
    space = spaces.build(explicit, choices, group_options, lambda option: search_entries(call, option))
    if not space.distributions:
        options = f"no conf/search/<option>.yaml for {', '.join(choices.values())}, and " if choices else ""
        raise SpaceError(
            f"nothing to search: {options}no sweep on the command line; give one, as"
            " optimizer.lr=tag(log,interval(1e-3,1e-1))"
        )
    return space


def merged(files: Space, command_line: Space) -> Space:
    """Both spaces; the command line wins."""
    keys = {*command_line.distributions, *command_line.fixed}
    distributions = {key: d for key, d in files.distributions.items() if key not in keys}
    fixed = {key: line for key, line in files.fixed.items() if key not in keys}
    return Space(distributions | command_line.distributions, fixed | command_line.fixed)


def search_entries(call: Invocation, option: str) -> Mapping[str, Any]:
    """The entries of conf/search/<option>.yaml, empty where there is none."""
    loader = call.context.config_loader
    if option not in loader.get_group_options("search"):
        return {}
    return load_config_file(loader, f"search/{option}")


def check_keys(space: Space, config: DictConfig, app: SearchedApp) -> None:
    """Raises SpaceError where trials that share a process would search what belongs to the process."""
    of_process = [key for key in app.process_keys if key in space.distributions]
    if of_process and config.hydra.sweeper.trials_per_worker > 1:
        raise SpaceError(
            f"{of_process[0]}: cannot be searched with hydra.sweeper.trials_per_worker above 1, as all trials of a"
            " process share it; allowed: hydra.sweeper.trials_per_worker=1"
        )


def complete(call: Invocation, name: str, folder: str, total: int, url: str | None = None) -> DictConfig:
    """The config with what follows from the rest: the study's name, folder, total and storage, and the launcher."""
    config = call.config
    hydra_overrides = list(config.hydra.overrides.hydra)
    sweeper = config.hydra.sweeper
    extra = [f"hydra.sweeper.study_name={quoted(name)}", f"hydra.sweeper.n_trials={total}"]
    extra.append("hydra.sweep.subdir=${hydra.job.num}")
    extra.append("hydra.hydra_logging.root.level=WARNING")  # launchers log every job, and jobs are workers here
    if url:
        extra.append(f"hydra.sweeper.storage={quoted(url)}")
    if not is_given(config, "hydra.sweep.dir"):
        extra.append(f"hydra.sweep.dir={quoted(folder)}")
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if sweeper.n_jobs > 1 and not is_given(config, "hydra/launcher"):
        launcher = "joblib"
        extra.append("hydra/launcher=joblib")
    if launcher == "joblib" and not is_given(config, "hydra.launcher.n_jobs"):
        extra.append(f"hydra.launcher.n_jobs={sweeper.n_jobs}")
    return call.context.config_loader.load_configuration(
        config.hydra.job.config_name, [*hydra_overrides, *call.arguments, *extra], RunMode.MULTIRUN
    )


def total_of(settings: DictConfig, space: Space) -> int:
    """The number of trials of the search; of a grid no more than it has."""
    if settings.sampler._target_ == "optuna.samplers.GridSampler":
        return min(int(settings.n_trials), grid_size(space))
    return int(settings.n_trials)


def grid_size(space: Space) -> int:
    """How many trials a grid has. Raises SpaceError where there is none."""
    if space.options:
        raise SpaceError(f"hydra/sweeper/sampler=grid: no grid where {', '.join(space.options)} is searched too")
    endless = [key for key, d in space.distributions.items() if isinstance(d, FloatDistribution) and not d.step]
    if endless:
        raise SpaceError(f"{', '.join(endless)}: no grid over an interval; allowed: choice(...), range(...)")
    return math.prod(len(values) for values in grid(space).values())


def fixed_settings(call: Invocation, config: DictConfig, space: Space) -> dict[str, Any]:
    """The settings that no trial changes. Raises SweepError for those that are not allowed in a search."""
    cfg = call.context.config_loader.load_sweep_config(config, list(space.fixed.values()))
    for key, reason in call.app.forbidden.items():
        value = OmegaConf.select(cfg, key)
        if value:
            raise SweepError(f"{key}={value}: not in a search; {reason}")
    return without(plain_settings(cfg), [*space.distributions, *call.app.execution_keys, "hydra"])


def plain_settings(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def option_settings(call: Invocation, config: DictConfig, space: Space, fixed: dict[str, Any]) -> dict[str, Any]:
    """By option of a config group that may be drawn, as "optimizer=adam": the settings that it adds to the fixed ones.

    Those that are searched are left out.
    """
    loader = call.context.config_loader
    settings = {}
    for options, branch in spaces.drawn_options(space, loader.get_group_options):
        drawn = [f"{group}={option}" for group, option in options.items()]
        cfg = loader.load_sweep_config(config, [*space.fixed.values(), *branch.fixed.values(), *drawn])
        searched = [key for key in (*space.distributions, *branch.distributions) if key not in options]
        kept = without(plain_settings(cfg), [*searched, *call.app.execution_keys, "hydra"])
        settings[" ".join(drawn)] = added(fixed, kept)
    return settings


def added(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the nested settings `now` that is not in `before`."""
    part = {}
    for key, value in now.items():
        earlier = before.get(key)
        if isinstance(value, Mapping) and isinstance(earlier, Mapping):
            below = added(earlier, value)
            if below:
                part[key] = below
        elif key not in before or value != earlier:
            part[key] = value
    return part


def without(settings: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """Nested settings without these keys."""
    kept = dict(settings)
    for key in keys:
        first, _, rest = key.lstrip("+").replace("/", ".").partition(".")
        if not rest:
            kept.pop(first, None)
        elif isinstance(kept.get(first), Mapping):
            kept[first] = without(kept[first], [rest])
    return kept


def check_space(call: Invocation, config: DictConfig, space: Space) -> None:
    """Compose and check every end of every range, in every branch. Raises SpaceError for the first that is wrong."""
    for options, branch in spaces.branches(space):
        drawn = [f"{group}={option}" for group, option in options.items()]
        of_branch = list(branch.fixed.values()) if options else []
        common = [*space.fixed.values(), *of_branch, *drawn]
        for end in spaces.ends(branch):
            try:
                call.app.check(call.context.config_loader.load_sweep_config(config, [*common, end]))
            except (UserError, HydraException) as error:
                where = f" with {' '.join(drawn)}" if drawn else ""
                raise SpaceError(f"the search would try {end}{where}: {error}") from error

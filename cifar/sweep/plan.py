"""The plan of a search: its settings, its space and its name, all decided and checked before the study is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import FloatDistribution

from cifar.errors import UserError
from cifar.sweep import rehearsal
from cifar.sweep import space as spaces
from cifar.sweep.app import Invocation, SearchedApp, quoted
from cifar.sweep.components import check as check_components
from cifar.sweep.components import check_known, grid
from cifar.sweep.lockstep import MAX_CONCURRENT_RUNS
from cifar.sweep.optuna_private import load_config_file
from cifar.sweep.space import Space, SpaceError
from cifar.sweep.values import canonical, parse_line, to_text

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
    """What is searched, how and where. `fixed` are the settings that no trial changes; `url` is the storage's."""

    config: DictConfig
    space: Space
    fixed: dict[str, Any]
    url: str
    folder: Path

    @property
    def settings(self) -> DictConfig:
        settings: DictConfig = self.config.hydra.sweeper
        return settings


def check_settings(hydra: DictConfig, app: SearchedApp) -> None:
    """Raises SweepError for a setting of Hydra or of the sweeper that is not allowed."""
    settings = hydra.sweeper
    check_known(settings)
    direction(settings, app)
    if hydra.job.chdir:
        raise SweepError("hydra.job.chdir=true: not allowed, the trials of a search share a process; allowed: false")
    for key, (low, high) in LIMITS.items():
        if key in settings and not low <= settings[key] <= high:
            raise SweepError(f"hydra.sweeper.{key}={settings[key]}: not allowed; allowed: from {low} to {high}")


def direction(settings: DictConfig, app: SearchedApp) -> str:
    """minimize or maximize: that of the settings, else that of the app's metric. Raises SweepError for any other."""
    value = app.direction if settings.direction is None else settings.direction
    if isinstance(value, ListConfig) and len(value) == 1:
        value = value[0]
    name = str(getattr(value, "name", value)).lower()
    if name not in ("minimize", "maximize"):
        raise SweepError(f"hydra.sweeper.direction={value}: not supported; allowed: maximize, minimize")
    return name


def make_plan(call: Invocation) -> Plan:
    """Complete the settings, build the space, and check both.

    Raises SpaceError for a space that cannot be searched, SweepError for settings that are not allowed in a search.
    """
    config, app = call.config, call.app
    space = build_space(call)
    search_options = [space.fixed.pop(key) for key in list(space.fixed) if canonical(key) == "search"]
    check_keys(space, config, app)
    name = config.hydra.sweeper.study_name or default_name(config, space, app)
    total = total_of(config.hydra.sweeper, space)
    config = complete(call, name, f"sweeps/{name}", total)
    config.hydra.overrides.hydra.extend(search_options)  # shapes hydra.sweeper, which all trials must share
    folder = fixed_folder(config.hydra).resolve()
    url = config.hydra.sweeper.storage or f"sqlite:///{folder / 'study.db'}"
    check_components(config.hydra.sweeper, space)
    rehearsal.check_space(call, config, space)
    fixed = fixed_settings(call, config, space)
    rehearsal.check_subdir(call, config, space)
    rehearsal.check_custom_space(call, config, space)
    return Plan(config, space, fixed, str(url), folder)


def build_space(call: Invocation) -> Space:
    """What hydra.sweeper.params, the command line and the files of conf/search say, in order of precedence."""
    config, group_options = call.config, call.context.config_loader.get_group_options
    params = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create(), resolve=False)
    assert isinstance(params, dict)
    of_settings = spaces.parse([f"{key}={entry_text(config, key, params[key])}" for key in map(str, params)])
    explicit = of_settings.joined(spaces.parse(call.arguments, group_options))
    choices = {
        group: str(option)
        for group, option in config.hydra.runtime.choices.items()
        if option is not None and not group.startswith("hydra/") and group != "search"
    }
    space = spaces.build(explicit, choices, group_options, lambda option: search_entries(call, option))
    if not space.distributions and not config.hydra.sweeper.custom_search_space:
        options = f"no conf/search/<option>.yaml for {', '.join(choices.values())}, and " if choices else ""
        raise SpaceError(
            f"nothing to search: {options}no sweep on the command line; give one, as"
            " optimizer.lr=tag(log,interval(1e-3,1e-1))"
        )
    spaces.check_kinds(space)
    return space


def entry_text(config: DictConfig, key: str, value: Any) -> str:
    """The value of an entry of hydra.sweeper.params or of conf/search, as on a command line.

    Interpolations are resolved only where they are part of a sweep, as in interval(${low}, 1); a trial resolves others.
    Raises SpaceError for an entry that a space cannot hold.
    """
    if isinstance(value, Mapping):
        inner = next(iter(value), "KEY")
        raise SpaceError(
            f"{key}: holds further keys, not what is searched; allowed: full keys, as {key}.{inner}, each with"
            " choice(...), range(...), interval(...), tag(log, interval(...)), or a fixed value (a number, a text,"
            " true, null, a list)"
        )
    if not isinstance(value, str):
        return to_text(value)
    try:
        parse_line(f"key={value}")
    except HydraException:
        if "${" in value:
            return str(OmegaConf.create({"value": value}, parent=config).value)
    return value


def search_entries(call: Invocation, option: str) -> Mapping[str, str]:
    """The entries of conf/search/<option>.yaml as texts, empty where there is none."""
    loader = call.context.config_loader
    if option not in loader.get_group_options("search"):
        return {}
    entries = load_config_file(loader, f"search/{option}")
    return {key: entry_text(call.config, key, value) for key, value in entries.items()}


def check_keys(space: Space, config: DictConfig, app: SearchedApp) -> None:
    """Warn of a search over chance. Raises SpaceError for keys that cannot be searched."""
    searched = spaces.everywhere(space)
    reasons = {"search": "it says what is searched; allowed: one of them, as search=architecture", **app.forbidden}
    for key in filter(searched.__contains__, reasons):
        raise SpaceError(f"{key}: cannot be searched; {reasons[key]}")
    of_process = [key for key in app.process_keys if key in searched]
    if of_process and config.hydra.sweeper.trials_per_worker > 1:
        raise SpaceError(
            f"{of_process[0]}: cannot be searched with hydra.sweeper.trials_per_worker above 1, as all trials of a"
            " process share it; allowed: hydra.sweeper.trials_per_worker=1"
        )
    for key in filter(searched.__contains__, filter(None, (app.seed_key, *app.chance_keys))):
        print(
            f"warning: {key} is searched, so chance is optimised: the best trial is the luckiest one, and its value is"
            f" too high; better: one {key} for all trials, and the best of them again on fresh seeds"
            " (hydra/sweeper=confirm)",
            flush=True,
        )


def overrides_of_hydra(config: DictConfig) -> list[str]:
    """The overrides of Hydra's own settings, with their interpolations, which only a trial can resolve."""
    lines = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(lines, list)
    return lines


def complete(call: Invocation, name: str, folder: str, total: int, url: str | None = None) -> DictConfig:
    """The config with what follows from the rest: the study's name, folder, total and storage, and the launcher."""
    config = call.config
    hydra_overrides = overrides_of_hydra(config)
    keys = {canonical(parse_line(line).get_key_element()) for line in hydra_overrides}
    sweeper = config.hydra.sweeper
    extra = [f"hydra.sweeper.study_name={quoted(name)}", f"hydra.sweeper.n_trials={total}"]
    extra.append("hydra.hydra_logging.root.level=WARNING")  # launchers log every job, and jobs are workers here
    if url:
        extra.append(f"hydra.sweeper.storage={quoted(url)}")
    if "hydra.sweep.dir" not in keys:
        extra.append(f"hydra.sweep.dir={quoted(folder)}")
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if sweeper.n_jobs > 1 and "hydra/launcher" not in keys:
        launcher = "joblib"
        extra.append("hydra/launcher=joblib")
    if launcher == "joblib" and "hydra.launcher.n_jobs" not in keys:
        extra.append(f"hydra.launcher.n_jobs={sweeper.n_jobs}")
    return call.context.config_loader.load_configuration(
        config.hydra.job.config_name, [*hydra_overrides, *call.arguments, *extra], RunMode.MULTIRUN
    )


def fixed_folder(hydra: DictConfig) -> Path:
    """The folder of the study, now the same in every process and for every trial (${now:...} is not).

    Raises SweepError where it depends on the trial.
    """
    plain = OmegaConf.to_container(hydra.sweep, resolve=False)
    assert isinstance(plain, dict)
    try:
        folder = str(hydra.sweep.dir)
    except OmegaConfBaseException as error:
        raise SweepError(
            f"hydra.sweep.dir={plain['dir']}: {str(error).splitlines()[0]}; allowed: one folder for all trials, as"
            " sweeps/NAME; a trial's own is hydra.sweep.subdir"
        ) from error
    if folder != plain["dir"]:
        hydra.sweep.dir = folder
        hydra.overrides.hydra.append(f"hydra.sweep.dir={to_text(folder)}")
    return Path(folder)


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


def default_name(config: DictConfig, space: Space, app: SearchedApp) -> str:
    """What is searched, as cifar10-resnet14-sgd-plateau; options that are searched are joined by +."""
    words = []
    for group in app.name_groups:
        option = str(config.hydra.runtime.choices.get(group) or "")
        if group in space.options:
            option = "+".join(space.options[group])
        if option and option != "none":
            words.append(re.sub(r"[^\w.+]+", "+", option).strip("+"))
    return "-".join(words) or str(config.hydra.job.name)


def fixed_settings(call: Invocation, config: DictConfig, space: Space) -> dict[str, Any]:
    """The settings that no trial changes, by their present names. Raises SweepError for those that are not allowed."""
    overrides = [*space.fixed.values(), *rehearsal.missing_groups(config, space)]
    cfg = call.context.config_loader.load_sweep_config(config, overrides)
    for key, reason in call.app.forbidden.items():
        value = OmegaConf.select(cfg, key)
        if value:
            raise SweepError(f"{key}={value}: not in a search; {reason}")
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    settings = call.app.upgrade_settings({str(key): value for key, value in plain.items()})
    return without(settings, [*space.distributions, *call.app.execution_keys, "hydra"])


def without(settings: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """Nested settings without these keys."""
    kept = dict(settings)
    for key in keys:
        first, _, rest = canonical(key).replace("/", ".").partition(".")
        if not rest:
            kept.pop(first, None)
        elif isinstance(kept.get(first), Mapping):
            kept[first] = without(kept[first], [rest])
    return kept

"""The plan of a search: its settings, its space and its name, all decided and checked before the study is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import FloatDistribution

from cifar.commands import quoted
from cifar.errors import UserError
from cifar.overrides import canonical, parse_line, to_text
from cifar.sweep import names, rehearsal
from cifar.sweep import space as spaces
from cifar.sweep.app import Invocation, SearchedApp
from cifar.sweep.components import check as check_components
from cifar.sweep.components import check_known, grid
from cifar.sweep.content import Known
from cifar.sweep.fixed import fixed_config, fixed_settings, option_settings
from cifar.sweep.optuna_private import load_config_file, with_snapshot
from cifar.sweep.plugin import LIMITS
from cifar.sweep.space import Space, SpaceError


class SweepError(UserError):
    """A search that cannot be started as it is configured, or that failed as a whole."""


@dataclass(frozen=True)
class Plan:
    """What is searched, how and where. `url` is the storage's.

    `fixed` are the settings that no trial changes; `options` are those that a drawn option of a config group adds.
    `contents`: what the search was trained on that this one confirms. `metric` is the name of what is optimised, None
    where it has none; `direction` is minimize or maximize.
    """

    config: DictConfig
    space: Space
    fixed: dict[str, Any]
    options: dict[str, Any]
    url: str
    folder: Path
    contents: list[Known] = field(default_factory=list)
    metric: str | None = None
    direction: str = "minimize"

    @property
    def settings(self) -> DictConfig:
        settings: DictConfig = self.config.hydra.sweeper
        return settings


def check_settings(hydra: DictConfig, app: SearchedApp) -> None:
    """Raises SweepError for a setting of Hydra or of the sweeper that is not allowed."""
    settings = hydra.sweeper
    check_known(settings)
    given_direction(settings)
    if hydra.job.chdir:
        raise SweepError("hydra.job.chdir=true: not allowed, the trials of a search share a process; allowed: false")
    for key, (low, high) in LIMITS.items():
        if key in settings and not low <= settings[key] <= high:
            raise SweepError(f"hydra.sweeper.{key}={settings[key]}: not allowed; allowed: from {low} to {high}")


def given_direction(settings: DictConfig) -> str | None:
    """minimize, maximize, or None where the settings do not say it. Raises SweepError for any other."""
    value = settings.direction
    if value is None:
        return None
    if isinstance(value, ListConfig) and len(value) == 1:
        value = value[0]
    name = str(getattr(value, "name", value)).lower()
    if name not in ("minimize", "maximize"):
        raise SweepError(f"hydra.sweeper.direction={value}: not supported; allowed: maximize, minimize")
    return name


def objective(app: SearchedApp, settings: DictConfig, cfg: DictConfig) -> tuple[str | None, str]:
    """The name of the metric that is optimised, and its direction: that of the settings, else that of the metric.

    `settings` are those of the sweeper, `cfg` is the fixed_config.
    Raises SweepError where a metric that the config chooses has another direction than the settings say.
    """
    of_settings = given_direction(settings)
    metric = app.metric(cfg)
    direction = app.direction(metric)
    if app.objective_key and of_settings not in (None, direction):
        raise SweepError(
            f"hydra.sweeper.direction={of_settings}: {app.objective_key}={metric} is to {direction}; allowed: leave the"
            f" direction out, or another {app.objective_key}: {', '.join(app.metrics)}"
        )
    return metric, of_settings or direction


def at_start(call: Invocation) -> Invocation:
    """The same start, which composes every trial from the config files as they are now."""
    loader = with_snapshot(call.context.config_loader)
    return replace(call, context=replace(call.context, config_loader=loader))


def make_plan(call: Invocation) -> Plan:
    """Complete the settings, build the space, and check both.

    Raises SpaceError for a space that cannot be searched, SweepError for settings that are not allowed in a search.
    """
    config = call.config
    space = build_space(call)
    check_keys(call, space)
    name = names.checked(config) or names.of_study(call, space)
    search_options = [space.fixed.pop(key) for key in list(space.fixed) if canonical(key) == "search"]
    total = total_of(config.hydra.sweeper, space)
    config = complete(call, name, f"sweeps/{name}", total)
    config.hydra.overrides.hydra.extend(search_options)  # shapes hydra.sweeper, which all trials must share
    folder = fixed_folder(config.hydra).resolve()
    url = config.hydra.sweeper.storage or f"sqlite:///{folder / 'study.db'}"
    check_components(config.hydra.sweeper, space)
    rehearsal.check_space(call, config, space)
    cfg = fixed_config(call, config, space)
    fixed = fixed_settings(call, cfg, space)
    rehearsal.check_subdir(call, config, space)
    rehearsal.check_custom_space(call, config, space)
    options = option_settings(call, config, space, fixed)
    check_time(call.app, config.hydra.sweeper, space, [fixed, *options.values()])
    metric, direction = objective(call.app, config.hydra.sweeper, cfg)
    return Plan(config, space, fixed, options, str(url), folder, metric=metric, direction=direction)


def build_space(call: Invocation) -> Space:
    """What hydra.sweeper.params, the command line and the files of conf/search say, in order of precedence."""
    config, group_options = call.config, call.context.config_loader.get_group_options
    params = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create(), resolve=False)
    assert isinstance(params, dict)
    try:
        of_settings = spaces.parse([f"{key}={entry_text(config, key, params[key])}" for key in map(str, params)])
    except (SpaceError, HydraException) as error:
        search = config.hydra.runtime.choices.get("search")
        file = f" or conf/search/{search}.yaml" if search else ""
        raise SpaceError(f"hydra.sweeper.params{file}: {' '.join(str(error).split())}") from error
    explicit = of_settings.joined(spaces.parse(call.arguments, group_options))
    choices = chosen_options(call, explicit)
    space = spaces.build(explicit, choices, group_options, lambda option: search_entries(call, option))
    if not space.distributions and not config.hydra.sweeper.custom_search_space:
        keys = {canonical(key) for option in choices.values() for key in search_entries(call, option)}
        options = f"no conf/search/<option>.yaml for {', '.join(choices.values())}, and " if choices else ""
        if keys:
            options = f"{', '.join(sorted(keys))}: fixed on the command line, or by from_study, and "
        raise SpaceError(
            f"nothing to search: {options}no sweep on the command line; give one, as"
            " optimizer.lr=tag(log,interval(1e-3,1e-1))"
        )
    spaces.check_kinds(space)
    return space


def chosen_options(call: Invocation, explicit: Space) -> dict[str, str]:
    """The option of each group, without those inside a group that follow, by interpolation, from what a trial draws."""
    config, loader = call.config, call.context.config_loader
    choices = {
        group: str(option)
        for group, option in config.hydra.runtime.choices.items()
        if option is not None and not group.startswith("hydra/") and group != "search"
    }
    drawn = [
        f"{group}={option}"
        for group, distribution in explicit.distributions.items()
        for option in loader.get_group_options(group)
        if option in getattr(distribution, "choices", ())
    ]
    for line in drawn if any("/" in group for group in choices) else []:
        then = loader.load_sweep_config(config, [*explicit.fixed.values(), line]).hydra.runtime.choices
        choices = {group: option for group, option in choices.items() if "/" not in group or then.get(group) == option}
    return choices


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
        if "${" not in value:
            raise SpaceError(
                f"{key}: {value}: cannot be read; allowed: choice(...), range(...), interval(...),"
                " tag(log, interval(...)), or a fixed value"
            ) from None
        return str(OmegaConf.create({"value": value}, parent=config).value)
    return value


def search_entries(call: Invocation, option: str) -> Mapping[str, str]:
    """The entries of conf/search/<option>.yaml as texts, empty where there is none."""
    loader = call.context.config_loader
    if option not in loader.get_group_options("search"):
        return {}
    entries = load_config_file(loader, f"search/{option}")
    return {key: entry_text(call.config, key, value) for key, value in entries.items()}


def check_keys(call: Invocation, space: Space) -> None:
    """Warn of a search over chance. Raises SpaceError for keys that cannot be searched."""
    config, app = call.config, call.app
    on_command_line = spaces.parse(call.arguments, call.context.config_loader.get_group_options).decided
    for key in app.start_keys:
        if key in space.decided and key not in on_command_line:
            raise SpaceError(f"{key}: not in a file of a search; allowed: {key}=VALUE on the command line")
    searched = spaces.everywhere(space)
    reasons = {"search": "it says what is searched; allowed: one of them, as search=architecture", **app.forbidden}
    if app.objective_key is not None:
        reasons[app.objective_key] = f"it says by what trials are compared; allowed: one of {', '.join(app.metrics)}"
    if app.time_key is not None:
        reasons[app.time_key] = "the same for all trials, by which they can be compared; allowed: one time"
    for key in filter(searched.__contains__, reasons):
        raise SpaceError(f"{key}: cannot be searched; {reasons[key]}")
    for key, value in ((key, value) for _, branch in spaces.branches(space) for key, value in spaces.ends(branch)):
        if app.is_left_open(canonical(key), value):
            raise SpaceError(f"{key}: searched with {value}, which each run decides anew; allowed: the other values")
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


def check_time(app: SearchedApp, settings: DictConfig, space: Space, composed: list[dict[str, Any]]) -> None:
    """Raises SpaceError where trials with a time, as one of the `composed` settings has it, cannot be run."""
    key, epochs = app.time_key, app.epochs_key
    times = [each[key] for each in composed if key is not None and each.get(key) is not None]
    if not times:
        return
    if settings.trials_per_worker > 1:
        raise SpaceError(
            f"{key}={times[0]}: not with hydra.sweeper.trials_per_worker={settings.trials_per_worker}, as trials that"
            f" share a device slow each other down; allowed: hydra.sweeper.trials_per_worker=1, or {epochs}=N"
        )
    if epochs in spaces.everywhere(space):
        raise SpaceError(f"{epochs}: cannot be searched where {key}={times[0]} sets it; allowed: {key}=null")


def complete(call: Invocation, name: str, folder: str, total: int, url: str | None = None) -> DictConfig:
    """The config with what follows from the rest: the study's name, folder, total and storage, and the launcher."""
    config = call.config
    hydra_overrides = names.overrides_of_hydra(config)
    sweeper = config.hydra.sweeper
    extra = [f"hydra.sweeper.study_name={quoted(name)}", f"hydra.sweeper.n_trials={total}"]
    extra.append("hydra.hydra_logging.root.level=WARNING")  # launchers log every job, and jobs are workers here
    if url:
        extra.append(f"hydra.sweeper.storage={quoted(url)}")
    if not names.is_given(config, "hydra.sweep.dir"):
        extra.append(f"hydra.sweep.dir={quoted(folder)}")
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if sweeper.n_jobs > 1 and not names.is_given(config, "hydra/launcher"):
        launcher = "joblib"
        extra.append("hydra/launcher=joblib")
    if launcher == "joblib" and not names.is_given(config, "hydra.launcher.n_jobs"):
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

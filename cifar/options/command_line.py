"""What a command line adds: the settings of resume=, from_study= and from_run=, and what it trusts.

Hydra parses it and composes the config; these keys are read from that config, wherever they are given.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar import commands, trust
from cifar.files import BEST_TRIAL, best_trial_file
from cifar.layout import CONF
from cifar.options import restored
from cifar.options.config import Config
from cifar.options.former import RENAMED_KEYS
from cifar.options.help import show_help
from cifar.options.hydra_private import Composition, composing, file_content
from cifar.options.option import ConfigError
from cifar.options.shared import parse, read_overrides, read_yaml, renamed, run_within, say
from cifar.options.start import claim
from cifar.options.times import check_one, epochs_win, with_other
from cifar.options.transfer import check_one_network
from cifar.options.user_conf import add_recorded_folder, check_names
from cifar.options.yaml_lines import option_files
from cifar.overrides import is_within, key_of, leaves

NOT_OF_ANOTHER_RUN = ("device", "resume", "from_study", "from_run")
"""Keys of a run that another one, which begins with it (from_run), does not take over."""
CONFIG_NAME = "config"
"""The config of the program; another one is of the user (--config-name)."""


@contextmanager
def prepared() -> Iterator[None]:
    """Within the block, Hydra starts with the settings that resume, from_study and from_run add, in a new directory.

    With --help GROUP it does not start: its own --help takes no argument.
    """
    show_help(sys.argv[1:])
    earlier = Earlier()
    with composing(settings_alone, (earlier.extend, epochs_win, earlier.restore, claim)):
        yield


def settings_alone(overrides: list[Override]) -> list[Override]:
    """The overrides of settings, by today's names; says which of them had former ones."""
    check_one(overrides)
    check_one_network(overrides)
    return [_todays(override) for override in without_trust(overrides)]


def _todays(override: Override) -> Override:
    key = RENAMED_KEYS.get(key_of(override))
    if key is not None:
        result = "kept under that name" if override.is_sweep_override() else "taken as that"
        say(f"{override.input_line}: {key_of(override)} is {key} now; {result}")
    return renamed(override)


def without_trust(overrides: list[Override]) -> list[Override]:
    """The overrides without trust=, which is granted; it is no setting, so it is recorded nowhere.

    Raises TrustError where CIFAR_TRUST names what is no module, ConfigError where a config group is to be null.
    """
    trust.granted()
    _check_groups(overrides)
    for override in overrides:
        if key_of(override) == "trust":
            _grant(override)
    return [override for override in overrides if key_of(override) != "trust"]


def _check_groups(overrides: list[Override]) -> None:
    """Raises ConfigError for GROUP=null: Hydra's own error does not name the group."""
    for override in overrides:
        key = key_of(override)
        options = [path.stem for path in option_files(CONF / key)]
        if options and "." not in key and not override.is_delete() and override.value() is None:
            raise ConfigError(f"{override.input_line}: not allowed; allowed: {', '.join(options)}, or leave it out")


def _grant(override: Override) -> None:
    """Raises ConfigError where the override is from a file (--experimental-rerun) or lists no modules."""
    names = None if override.is_sweep_override() else override.value()
    if override.input_line not in sys.argv or not isinstance(names, (str, list)):
        raise ConfigError(
            f"{override.input_line}: allowed: trust=[my_module] or trust=[my_module,another], on the command line"
        )
    trust.grant(map(str, [names] if isinstance(names, str) else names))


class Earlier:
    """The run or the study that a start names: its settings, and what conf/ said then."""

    def __init__(self) -> None:
        self.place = ""
        self.decided: set[str] = set()
        self.record: dict[str, Any] = {}

    def extend(self, start: Composition) -> list[Override]:
        """The overrides of a start, with those of the run or study that its config names."""
        check_names(start.loader)
        resume, study, run = (named(start.config, key) for key in ("resume", "from_study", "from_run"))
        if start.mode == RunMode.MULTIRUN:
            _check_multirun(start, resume)
        if resume is None and study is None and run is None:
            return self._extend_confirmation(start)
        if resume is None and study is not None and run is not None:
            raise ConfigError(
                f"from_run={run} from_study={study}: both say with which settings to train; allowed: one of them"
            )
        directory = resume or run
        add_recorded_folder(start.loader, Path(directory) if directory else run_of(trial_file(Path(study or ""))))
        files = _set_by_files(start)
        of_time = with_other(start.overrides, files if resume is None else set())
        self.decided = decided_keys(start.overrides, files) | of_time
        self.place = directory or study or ""
        self.record = restored.of_run(directory) if directory else restored.of_trial(trial_file(Path(self.place)))
        if resume is None and run is not None:
            self.record = {key: value for key, value in self.record.items() if key not in NOT_OF_ANOTHER_RUN}
        return expand(start.overrides, resume, study, self.decided, run)

    def _extend_confirmation(self, start: Composition) -> list[Override]:
        """The overrides of a start, which sees the user's config files that the search it confirms was started with."""
        study = OmegaConf.select(start.config, "hydra.sweeper.study")
        if start.mode == RunMode.MULTIRUN and study and (Path(study) / BEST_TRIAL).exists():
            add_recorded_folder(start.loader, run_of(Path(study) / BEST_TRIAL))
        return start.overrides

    def restore(self, start: Composition) -> list[Override]:
        """The overrides of a start, with what the files in conf/ said when the run or study was begun."""
        return restored.restored(start, self.place, self.record, self.decided)


def decided_keys(overrides: list[Override], keys_of_files: Iterable[str] = ()) -> set[str]:
    """The keys that the command line gives, itself or in the files that it names."""
    return {key for override in overrides for key, _ in leaves(override)}.union(keys_of_files)


def named(config: DictConfig, key: str) -> str | None:
    """The directory at `key`; None where there is none."""
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from None
    return None if value in (None, "") else str(value)


def _check_multirun(start: Composition, resume: str | None) -> None:
    """Raises ConfigError for a key whose settings no job of a grid or of a search would get."""
    swept = {key_of(override) for override in start.overrides if override.is_sweep_override()}
    if resume is not None or "resume" in swept:
        raise ConfigError(
            f"resume={resume or '...'}: resumes one run, so not with -m (a search resumes by itself); allowed:"
            f" {commands.command('resume=DIR')}"
        )
    for key, what in (("from_study", "study"), ("from_run", "run")):
        if key in swept:
            raise ConfigError(f"{key}: one {what} for all jobs of a grid or a search; allowed: {key}=DIR")


def expand(
    overrides: list[Override],
    resume: str | None,
    study: str | None,
    decided: Collection[str] = (),
    run: str | None = None,
) -> list[Override]:
    """The overrides of `resume`, `study` and `run` (from_run), of which one is given, followed by `overrides`.

    These win, and so do other keys that are `decided`. `resume`, `study` or `run` is among the result. A resumed run
    has the settings of its study, and of the run that it began with, already. Raises ConfigError where a directory
    holds no run, or no best trial.
    """
    on_command_line = decided_keys(overrides)
    decided = on_command_line | {RENAMED_KEYS.get(key, key) for key in decided}
    if resume is not None:
        brought = read_run(resume)
        names = {"hydra.run.dir": resume, "resume": resume}
    elif run is not None:
        brought = read_first_run(run, decided)
        names = {"from_run": run}
    else:
        brought = read_study(Path(study or ""))
        names = {"from_study": study or ""}
    brought = [override for override in brought if not is_within(key_of(override), decided)]
    lines = [commands.override(key, value) for key, value in names.items() if key not in on_command_line]
    return [*brought, *parse(lines, Path(resume or run or study or "")), *overrides]


def read_run(directory: str) -> list[Override]:
    """The overrides of the run in a directory."""
    file = Path(directory) / ".hydra" / "overrides.yaml"
    if not file.exists():
        raise ConfigError(f"resume={directory}: {_why_no_run(Path(directory))}")
    return read_overrides(file, read_yaml(file), of_run=True)


def read_first_run(directory: str, decided: Collection[str]) -> list[Override]:
    """The overrides of a run that another one begins with, but for what only says where and on what it ran."""
    file = Path(directory) / ".hydra" / "overrides.yaml"
    if not file.exists():
        trial = best_trial_file(Path(directory))
        of_study = f"; its best trial: {commands.override('from_run', str(run_of(trial)))}" if trial else ""
        raise ConfigError(
            f"from_run={directory}: {_why_no_run(Path(directory))}; allowed: the directory of a run or of a"
            f" trial{of_study}"
        )
    return read_overrides(file, read_yaml(file), of_run=False, without=NOT_OF_ANOTHER_RUN, decided=decided)


def _why_no_run(directory: Path) -> str:
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if "run.log" in names and names.isdisjoint(("result.json", "checkpoint.pt")):
        return "its run was ended before it trained; start it again with its own command"
    return "not a run directory, it has no .hydra/overrides.yaml"


def read_study(study: Path) -> list[Override]:
    """The overrides of the confirmed trial of a study, else of its best one."""
    file = trial_file(study)
    best = read_yaml(file)
    return read_overrides(file, best.get("overrides") if isinstance(best, dict) else None, of_run=False)


def trial_file(study: Path) -> Path:
    """The settings of the confirmed trial of a study, else of its best one. Raises ConfigError where there are none."""
    file = best_trial_file(study)
    if file is None:
        siblings = sorted(str(other.parent) for other in study.parent.glob(f"*/{BEST_TRIAL}"))
        raise ConfigError(
            f"from_study={study}: no {BEST_TRIAL} in it, which a search writes once a trial is complete;"
            f" allowed: {', '.join(siblings) or 'the folder of a study, as sweeps/NAME'}"
        )
    return file


def run_of(trial: Path) -> Path:
    """The run directory of the trial that best.yaml or confirmed.yaml holds; it need not be there."""
    best = read_yaml(trial)
    return run_within(trial.parent, str(best.get("folder") if isinstance(best, dict) else None))


def check_study(config: Config, task_overrides: list[str]) -> None:
    """Raises ConfigError where a job of a grid names a study, or a run, whose settings it does not have.

    An option that is swept, such as an experiment, may name it: that is seen in the job alone.
    """
    if config.resume is not None:
        return
    for key, place in (("from_study", config.from_study), ("from_run", config.from_run)):
        if place is not None and key not in map(key_of, parse(task_overrides, Path(place))):
            raise ConfigError(f"{key}={place}: in an option that is swept; allowed: {key}=DIR on the command line")


def _set_by_files(start: Composition) -> set[str]:
    """The keys that the files set which the command line names: options of groups, experiments, --config-name."""
    hydra = start.config.hydra
    chosen = [(key_of(override), value) for override in start.overrides for _, value in leaves(override)]
    chosen.append(("experiment", hydra.runtime.choices.get("experiment")))
    keys: set[str] = set()
    for group, options in chosen:
        for option in options if isinstance(options, list) else [options]:
            if isinstance(option, str) and "." not in group:
                keys |= _set_by(start.loader, f"{group}/{option}", hydra.runtime.choices)
    if hydra.job.config_name != CONFIG_NAME:
        keys |= {key for key, _ in _flat(file_content(start.loader, str(hydra.job.config_name), {})[0])}
    return keys


def _set_by(loader: ConfigLoader, path: str, chosen: Mapping[str, Any]) -> set[str]:
    """The keys that a file sets, the groups of which it chooses options, and what these set in turn."""
    content, choices = file_content(loader, path, chosen)
    keys = {key for key, _ in _flat(content)}
    for group, option in choices:
        keys.add(group)
        keys |= _set_by(loader, f"{group}/{option}", chosen)
    return keys


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

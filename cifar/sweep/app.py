"""What the sweeper knows of the app that it searches for. Apps import this at every start: it imports no Optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cifar.overrides import canonical

if TYPE_CHECKING:
    from optuna.study import Study

Metrics = float | Mapping[str, float]
"""What a run reports after a step: one number, or numbers by name."""


def accept(config: DictConfig) -> None:
    """The default of SearchedApp.check: every config is allowed."""


def start_afresh(run: Path) -> list[str]:
    """The default of SearchedApp.resume: an interrupted trial begins again."""
    return []


def no_history(run: Path) -> Iterable[tuple[int, Metrics]]:
    """The default of SearchedApp.history: an earlier attempt has no steps that count."""
    return ()


def no_name(config: DictConfig) -> str:
    """The default of SearchedApp.content_name: data sets are not told apart by name."""
    return ""


def no_notes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The default of SearchedApp.content_notes."""
    return []


def nothing_open(key: str, value: Any) -> bool:
    """The default of SearchedApp.is_left_open: no run decides what a value is."""
    return False


def nothing_recorded(run: Path) -> Mapping[str, Any]:
    """The default of SearchedApp.recorded_content and SearchedApp.execution: a run directory does not say it."""
    return {}


def unchanged(settings: dict[str, Any]) -> dict[str, Any]:
    """The default of SearchedApp.upgrade_settings: settings are called today what they were always called."""
    return settings


def nothing_changed(settings: Mapping[str, Any]) -> list[str]:
    """The default of SearchedApp.former_overrides: the app's defaults are what they always were."""
    return []


@dataclass(frozen=True)
class SearchedApp:
    """How a Hydra app takes part in a search; every default is a no-op.

    It travels to the workers, other processes among them, so its functions have to be importable: functions of a
    module, no lambdas. Keys are full Hydra keys, such as "data.root".
    """

    command: tuple[str, ...] = ()
    """The program, as ("python", "run.py"), for the command that best.yaml holds; by default the running script."""

    metrics: Mapping[str, str] = field(default_factory=dict)
    """The metrics that can be optimised, by name, with their direction: minimize or maximize. A reporter takes the
    chosen one from those of a step. Empty: the task function returns a number to minimize."""

    objective_key: str | None = None
    """Key whose value is the name of the metric that a search optimises; without one it is the first of `metrics`."""

    check: Callable[[DictConfig], object] = accept
    """Called with composed configs before a search starts, and before a confirmation with those that evaluate the test
    set; raises UserError for one that is not allowed."""

    forbidden: Mapping[str, str] = field(default_factory=dict)
    """Keys that must be false or null in a search, each with the reason and what is allowed."""

    start_keys: tuple[str, ...] = ()
    """Keys that act when the program starts: only on its command line, not in what a file says of a search."""

    execution_keys: tuple[str, ...] = ()
    """Keys that say where and how a trial runs, not what it is: they may change between two starts of a study."""

    is_left_open: Callable[[str, Any], bool] = nothing_open
    """Whether, with this value of a key, each run decides for itself what it is: not one of several to search."""

    process_keys: tuple[str, ...] = ()
    """Keys that all trials of a process share: not searched where a worker runs several trials at once."""

    threads_key: str | None = None
    """Key of the number of CPU threads: parallel workers share the cores."""

    device_key: str | None = None
    """Key of the device: where there are several CUDA devices, each worker gets one (cuda:N)."""

    seed_key: str | None = None
    """Key of the seed of a run, which a confirmation changes."""

    chance_keys: tuple[str, ...] = ()
    """Further keys that change nothing but chance, such as the seed of a split: a search over one is warned of."""

    test_key: str | None = None
    """Key that has a run evaluate the test set, which a confirmation sets to true at the end."""

    epochs_key: str | None = None
    """Key of the number of steps that a run reports: the max_resource of Hyperband."""

    time_key: str | None = None
    """Key of a time that sets the number of steps instead, where it is not null: each trial has that time."""

    name_groups: tuple[str, ...] = ()
    """Config groups whose options make the default name of a study; without any it is the name of the app."""

    resume: Callable[[Path], list[str]] = start_afresh
    """The overrides with which a trial resumes the run in that directory, which was interrupted; empty where it
    cannot, and has to start afresh."""

    history: Callable[[Path], Iterable[tuple[int, Metrics]]] = no_history
    """The steps that the run in that directory reported before it was interrupted, for the trial that resumes it."""

    execution: Callable[[Path], Mapping[str, Any]] = nothing_recorded
    """Settings, by key, of how the run in that directory was executed, on which its figures depend (CPU threads, the
    steps that a time allowed); best.yaml holds them, so that a run with the settings of a trial gives the figures of
    the trial."""

    upgrade_settings: Callable[[dict[str, Any]], dict[str, Any]] = unchanged
    """Gives the settings of a study their present names, and leaves out what means nothing new; called before they are
    stored or compared."""

    renamed_keys: Mapping[str, str] = field(default_factory=dict)
    """Former key -> today's, where a study may search one by its former name: neither is fixed then."""

    former_overrides: Callable[[Mapping[str, Any]], list[str]] = nothing_changed
    """Overrides for what the fixed settings of a stored study lack because an earlier version of the app wrote them,
    and for which the app's default is another today."""

    content_name: Callable[[DictConfig], str] = no_name
    """A name for what a composed config trains on, such as that of its folder; it follows the first of name_groups in
    the default name of a study."""

    content_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For each part of what a run passes to Reporter.identify: the keys that choose it, as patterns ("data.val_*").
    Where such a key is searched, each of its values has a content; otherwise all trials of a study have the same."""

    content_differences: Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]] | None = None
    """What differs between two contents, in words, empty where they are the same; by default each key with both
    values."""

    content_notes: Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]] = no_notes
    """What differs between two contents but does not matter to the study; it is printed."""

    recorded_content: Callable[[Path], Mapping[str, Any]] = nothing_recorded
    """The content of the run in that directory: for trials that began before contents were compared."""

    at_end: Callable[[Study, Path], str] | None = None
    """The text to print at the end of a search, from the study and its folder; by default one line on the best trial.
    It may write files, such as a report."""

    def metric(self, config: DictConfig) -> str | None:
        """The name of the metric that a search with this composed config optimises; None where it has no name."""
        if self.objective_key is None:
            return next(iter(self.metrics), None)
        name = str(OmegaConf.select(config, self.objective_key))
        return name if name in self.metrics else None

    def decides_content(self, key: str, part: str | None = None) -> bool:
        """Whether the values of a key decide what is trained on, or a part of it."""
        patterns = [pattern for name, keys in self.content_keys.items() if part in (None, name) for pattern in keys]
        return any(fnmatchcase(canonical(key), pattern) for pattern in patterns)

    def direction(self, metric: str | None) -> str:
        """minimize or maximize."""
        return self.metrics[metric] if metric is not None else "minimize"


@dataclass(frozen=True)
class Invocation:
    """One start of a sweeper: what Hydra hands over, and the app that it is for. `arguments` are the overrides."""

    context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    arguments: list[str]
    app: SearchedApp

"""Studies, trials, runs and epochs as tidy frames, of finished and of running sweeps.

    frames = read("sweeps/NAME")        # a study's folder, a run, a grid, a folder of runs, or an Optuna URL
    frames.trials[["number", "score"]]

What cannot be read is listed with its `problem`, and is no reason to stop. Columns and dtypes: SPACES to EPOCHS.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from cifar.errors import UserError
from cifar.results import ResultsError, read_metrics, read_result

Columns = dict[str, tuple[str, str]]
"""Of a frame: dtype and meaning by name. Texts that are missing are empty, numbers and times NA."""

TEXT, WHOLE, NUMBER, FLAG, LOCAL = "str", "Int64", "float64", "bool", "datetime64[us]"
SPACES: Columns = {
    "branch": (TEXT, "the trials that it holds for: options that were drawn, as optimizer=sgd; empty: for all"),
    "hyperparameter": (TEXT, "its key, as optimizer.lr"),
    "kind": (TEXT, "number or choice"),
    "low": (NUMBER, "smallest value; of a choice of numbers too"),
    "high": (NUMBER, "largest value"),
    "log": (FLAG, "searched by its logarithm"),
    "whole": (FLAG, "whole numbers only"),
    "choices": ("object", "tuple of what can be chosen, None of a number"),
}
TRIALS: Columns = {
    "number": (WHOLE, "in its study"),
    "state": (TEXT, "Optuna's: COMPLETE, PRUNED, RUNNING, WAITING, FAIL"),
    "outcome": (TEXT, "complete, pruned, running, waiting; of a FAIL: failed, diverged, lost, interrupted, withdrawn"),
    "reason": (TEXT, "why a FAIL failed"),
    "value": (NUMBER, "the objective: best validation accuracy, share of 1"),
    "score": (NUMBER, "the value where it is finite, negated where the study minimizes: larger is better"),
    "last_step": (WHOLE, "the last epoch that it reported"),
    "last_score": (NUMBER, "what it reported there, signed as score"),
    "started": (LOCAL, "local time"),
    "ended": (LOCAL, "local time"),
    "seconds": (NUMBER, "from start to end"),
    "worker": (TEXT, "host, process and index"),
    "retry_of": (WHOLE, "the trial that it tries again"),
    "branch": (TEXT, "options that decided what else was searched, as optimizer=sgd; empty where none did"),
    "run": (TEXT, "its run directory, empty where there is none"),
    "problem": (TEXT, "what could not be read"),
}
"""And a column params.KEY for each hyperparameter, NaN or None in the trials that did not have it."""
RUNS: Columns = {
    "run": (TEXT, "run directory"),
    "status": (TEXT, "running, finished, pruned, interrupted, diverged, failed; empty where not known"),
    "message": (TEXT, "why it ended, where it did not finish"),
    "problem": (TEXT, "what could not be read"),
    "started": ("datetime64[us, UTC]", "start of the run"),
    "seed": (WHOLE, "of weights, order and augmentation"),
    "epochs": (WHOLE, "planned"),
    "epochs_done": (WHOLE, "epochs"),
    "best_epoch": (WHOLE, "with the highest validation accuracy"),
    "val_accuracy": (NUMBER, "of the best epoch, share of 1"),
    "val_loss": (NUMBER, "of the best epoch, nats"),
    "test_accuracy": (NUMBER, "share of 1, NaN where the test set was not looked at"),
    "test_images": (WHOLE, "images"),
    "train_seconds": (NUMBER, "training and validation of all epochs"),
    "parameters": (WHOLE, "of the model"),
    "flops": (WHOLE, "of an image's forward pass, 2 for a multiply-add"),
    "train_images": (WHOLE, "images"),
    "val_images": (WHOLE, "images"),
    "val_fingerprint": (TEXT, "of the validation images: equal for equal splits"),
    "device": (TEXT, "cpu or cuda"),
}
"""And a column config.KEY for each setting of the run."""
EPOCHS: Columns = {
    "run": (TEXT, "run directory"),
    "epoch": (WHOLE, "from 1"),
    "train_loss": (NUMBER, "mean cross-entropy, nats"),
    "train_accuracy": (NUMBER, "share of 1"),
    "val_loss": (NUMBER, "mean cross-entropy, nats"),
    "val_accuracy": (NUMBER, "share of 1"),
    "lr": (NUMBER, "of the first parameter group in the last step"),
    "seconds": (NUMBER, "training and validation"),
    "images_per_second": (NUMBER, "training images"),
}
FRESH: Columns = {
    "number": (WHOLE, "of the trial that was confirmed"),
    "reported": (NUMBER, "what the search reported of it, signed as score"),
    "seed": (WHOLE, "a fresh one"),
    "score": (NUMBER, "on that seed"),
    "run": (TEXT, "run directory"),
}
TESTS: Columns = {
    "look": (WHOLE, "from 1: how often the test set was looked at, up to this"),
    "number": (WHOLE, "of the trial that was chosen"),
    "seed": (WHOLE, "of the run that was evaluated"),
    "accuracy": (NUMBER, "on the test images, share of 1"),
    "images": (WHOLE, "test images"),
    "run": (TEXT, "run directory"),
}
RESULT = {
    "status": "status",
    "message": "message",
    "started": "started",
    "seed": "seed",
    "epochs": "epochs",
    "best_epoch": "best.epoch",
    "val_accuracy": "best.val_accuracy",
    "val_loss": "best.val_loss",
    "test_accuracy": "test.accuracy",
    "test_images": "test.images",
    "parameters": "model.parameters",
    "flops": "model.flops",
    "train_images": "data.train.images",
    "val_images": "data.val.images",
    "val_fingerprint": "data.val.fingerprint",
    "device": "device.type",
}
"""Where result.json holds what is not counted from the epochs."""
TRACES = ("result.json", "metrics.csv", ".hydra/config.yaml")
"""One of these makes a folder a run directory."""


class FramesError(UserError):
    """A place that holds nothing to read."""


@dataclass(frozen=True)
class Frames:
    """What was read. `study` is its name, empty where the place holds runs alone; `objectives` are its directions.

    `fresh` and `tests` are of its confirmation, empty where there is none; `chosen` is the number of the confirmed
    trial, None as long as there is none, and `looks` says how often the test set was looked at.
    """

    place: str
    study: str
    objectives: tuple[str, ...]
    spaces: pd.DataFrame
    trials: pd.DataFrame
    runs: pd.DataFrame
    epochs: pd.DataFrame
    fresh: pd.DataFrame
    tests: pd.DataFrame
    chosen: int | None = None
    looks: int = 0


def read(place: str | Path, study: str | None = None) -> Frames:
    """All that a place holds: a study's folder, a database, an Optuna URL, a run, or a folder of runs.

    `study` names one of several in a storage. Raises FramesError where there is nothing to read.
    """
    place = str(place)
    url, folder, name = located(place)
    if url:
        return of_study(open_study(url, study or name), place, folder)
    runs = run_folders(folder) if folder else []
    if not runs:
        raise FramesError(
            f"{place}: neither a study nor a run; allowed: a folder of a sweep (sweeps/NAME), of a run"
            " (outputs/DATE/TIME) or of a grid (multirun/DATE/TIME), or an Optuna URL (sqlite:///FILE)"
        )
    spaces, trials, fresh, tests = (table([], columns) for columns in (SPACES, TRIALS, FRESH, TESTS))
    return Frames(place, "", (), spaces, trials, *_runs(runs), fresh, tests)


def of_study(study: Study, place: str = "", folder: Path | None = None) -> Frames:
    """The frames of an open study, with the runs and the confirmation in its folder."""
    trials = study.get_trials(deepcopy=False)
    objectives = tuple(direction.name.lower() for direction in study.directions)
    sign = -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0
    branches = _branches(trials)
    rows = [_trial(t, sign, branches[t.number], folder) for t in trials]
    runs, epochs = _runs(sorted(filter(_is_run, folder.glob("*")), key=_in_order) if folder else [])
    return Frames(
        place=place,
        study=study.study_name,
        objectives=objectives,
        spaces=table(_spaces(trials, branches), SPACES),
        trials=table(rows, TRIALS),
        runs=runs,
        epochs=epochs,
        fresh=table(_fresh(folder, {row["number"]: row["score"] for row in rows}) if folder else [], FRESH),
        tests=table(_tests(folder) if folder else [], TESTS),
        chosen=_at(_tried(lambda: _yaml(folder / "confirmed.yaml"), {}, [], ""), "trial") if folder else None,
        looks=len(_looks(folder)) if folder else 0,
    )


def _fresh(folder: Path, reported: dict[int, float]) -> list[dict[str, Any]]:
    """A row for each complete run of the confirmation."""
    return [row | {"reported": reported.get(row["number"])} for row in _confirming(folder / "confirmation")]


def _looks(folder: Path) -> list[Path]:
    """The folder of each look at the test set."""
    return list((folder / "confirmation").glob("test-*"))


def _tests(folder: Path) -> list[dict[str, Any]]:
    """A row for each run that was evaluated on the test set."""
    rows = []
    for look in _looks(folder):
        for row in _confirming(look):
            result = _tried(partial(read_result, Path(row["run"])), {}, [], "")
            facts = {"accuracy": _at(result, "test.accuracy"), "images": _at(result, "test.images")}
            rows.append(row | {"look": int(look.name.removeprefix("test-"))} | facts)
    return sorted(rows, key=lambda row: (row["look"], row["seed"]))


def _confirming(folder: Path) -> list[dict[str, Any]]:
    """number, seed, score and run of the complete trials of a confirmation's study; none where there is no such."""
    try:
        url, _, name = located(str(folder))
        study = open_study(url, name) if url else None
    except FramesError:
        return []
    sign = -1.0 if study and study.direction == StudyDirection.MINIMIZE else 1.0
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if study else []
    return [
        {
            "number": t.user_attrs.get("confirms"),
            "seed": t.params.get("seed"),
            "score": sign * t.values[0],
            "run": str(folder / str(t.number)),
        }
        for t in complete
    ]


def table(rows: list[dict[str, Any]], columns: Columns) -> pd.DataFrame:
    """A frame of these columns in their dtypes, and behind them those that the rows bring along."""
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*columns, *(key for row in rows for key in row)])))
    for name, (dtype, _) in columns.items():
        frame[name] = _typed(frame[name], dtype)
    return frame


def _typed(values: pd.Series[Any], dtype: str) -> pd.Series[Any]:
    """A column in its dtype; what does not fit (a damaged file) is missing."""
    if dtype == TEXT:
        return values.map(lambda value: "" if value is None or value != value else str(value)).astype(object)
    if dtype.startswith("datetime"):
        return pd.to_datetime(values, errors="coerce", utc="UTC" in dtype, format="ISO8601").astype(dtype)
    if dtype in (WHOLE, NUMBER):
        numbers = pd.to_numeric(values, errors="coerce")
        return (numbers.round() if dtype == WHOLE else numbers).astype(dtype)
    return values.astype(dtype)


def located(place: str) -> tuple[str | None, Path | None, str | None]:
    """The storage's URL, the folder and the study's name that a place means, None where there is or it tells none."""
    if "://" in place:
        file = place.partition(":///")[2]
        own = place.startswith("sqlite:///") and Path(file).name == "study.db"
        return place, Path(file).parent if own else None, None
    path = Path(place)
    if path.is_file():
        return f"sqlite:///{path}", path.parent if path.name == "study.db" else None, None
    if not path.is_dir():
        raise FramesError(f"{place}: no such folder; allowed: a folder of a sweep, of a run or of a grid, or a URL")
    if (path / "study.db").exists():
        return f"sqlite:///{path / 'study.db'}", path, None
    sweep = _at(_settings_of_sweep(path), "hydra.sweeper") or {}
    return sweep.get("storage"), path, sweep.get("study_name")


def _settings_of_sweep(folder: Path) -> dict[str, Any]:
    """Hydra's settings of a sweep that keeps its study elsewhere, as its first trial has them."""
    first = folder / "0" / ".hydra" / "hydra.yaml"
    return _yaml(first) if first.exists() else {}


def open_study(url: str, name: str | None) -> Study:
    """A study in a storage, which is left as it is. Raises FramesError where it cannot be read."""
    try:
        storage = _storage(url)
        names = [study.study_name for study in storage.get_all_studies()]
    except (OptunaError, SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise FramesError(
            f"{url}: holds no study that Optuna can read ({str(error.__cause__ or error).splitlines()[0]})"
        ) from None
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        what = f"study {name}: not in {url}" if name else f"{url}: holds {len(names)} studies"
        raise FramesError(f"{what}; allowed: {'--study ' + ', '.join(names) if names else 'a storage with a study'}")
    return optuna.load_study(study_name=name, storage=storage)


def _storage(url: str) -> BaseStorage:
    if url.startswith("journal:///"):
        file = Path(url.removeprefix("journal:///"))
        if not file.exists():
            raise FileNotFoundError("no such file")  # Optuna would make one
        return JournalStorage(JournalFileBackend(str(file)))
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        raise FileNotFoundError("no such file")
    return RDBStorage(url, skip_table_creation=True)


def _branches(trials: list[FrozenTrial]) -> dict[int, str]:
    """By trial, the options that decided what else was searched; all empty where every trial had the same space.

    They are the choices, as few as possible, whose values tell the space of every trial that has ended.
    """
    spaces = {t.number: frozenset(t.distributions.items()) for t in trials if t.state in ENDED and t.params}
    keys = _deciding([t for t in trials if t.number in spaces], spaces)
    if keys is None:
        kinds = {space: f"space {i}" for i, space in enumerate(dict.fromkeys(spaces.values()), 1)}
        return {t.number: kinds.get(spaces.get(t.number, frozenset()), "") for t in trials}
    return {t.number: " ".join(f"{key}={t.params[key]}" for key in keys if key in t.params) for t in trials}


ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
Spaces = dict[int, frozenset[tuple[str, BaseDistribution]]]


def _deciding(trials: list[FrozenTrial], spaces: Spaces) -> tuple[str, ...] | None:
    """The choices that all trials share and that decide on their space; None where no choices do."""
    different = set(spaces.values())
    shared = frozenset.intersection(*different) if different else frozenset()
    choices = sorted((len(d.choices), key) for key, d in shared if isinstance(d, CategoricalDistribution))
    for count in range(len(choices) + 1):
        for keys in itertools.combinations([key for _, key in choices], count):
            if len({(*(t.params[key] for key in keys), spaces[t.number]) for t in trials}) == len(
                {tuple(t.params[key] for key in keys) for t in trials}
            ):
                return keys
    return None


def _spaces(trials: list[FrozenTrial], branches: dict[int, str]) -> list[dict[str, Any]]:
    """A row for each hyperparameter of each branch."""
    found: dict[tuple[str, str], BaseDistribution] = {}
    for trial in trials:
        if trial.state in ENDED:
            for key, distribution in trial.distributions.items():
                found.setdefault((branches[trial.number], key), distribution)
    return [{"branch": branch, "hyperparameter": key, **_range(d)} for (branch, key), d in found.items()]


def _range(distribution: BaseDistribution) -> dict[str, Any]:
    d: Any = distribution
    if isinstance(distribution, CategoricalDistribution):
        numbers = [c for c in d.choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
        low, high = (min(numbers), max(numbers)) if len(numbers) == len(d.choices) else (None, None)
        return {"kind": "choice", "low": low, "high": high, "log": False, "whole": False, "choices": tuple(d.choices)}
    whole = isinstance(distribution, optuna.distributions.IntDistribution)
    return {"kind": "number", "low": d.low, "high": d.high, "log": d.log, "whole": whole, "choices": None}


def _trial(trial: FrozenTrial, sign: float, branch: str, folder: Path | None) -> dict[str, Any]:
    value = trial.values[0] if trial.values and trial.state == TrialState.COMPLETE else None
    last = trial.intermediate_values.get(trial.last_step) if trial.last_step is not None else None
    own = trial.user_attrs
    run = folder / own["folder"] if folder and "folder" in own else None
    outcome = own.get("outcome", "failed") if trial.state == TrialState.FAIL else trial.state.name.lower()
    worker = own.get("worker")
    row = {
        "number": trial.number,
        "state": trial.state.name,
        "outcome": outcome,
        "reason": own.get("reason"),
        "value": value,
        "score": sign * value if value is not None and math.isfinite(value) else None,
        "last_step": trial.last_step,
        "last_score": None if last is None else sign * last,
        "started": trial.datetime_start,
        "ended": trial.datetime_complete,
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "worker": "{host} {pid} {index}".format(**worker) if isinstance(worker, dict) else None,
        "retry_of": own.get("retry_of"),
        "branch": branch,
        "run": run,
        "problem": "no run directory" if run and trial.state != TrialState.WAITING and not run.is_dir() else None,
    }
    return row | {f"params.{key}": value for key, value in trial.params.items()}


def run_folders(folder: Path) -> list[Path]:
    """The run directories at a folder: itself, or those up to three levels below, by number where they have one."""
    if _is_run(folder):
        return [folder]
    below = itertools.chain.from_iterable(folder.glob(pattern) for pattern in ("*", "*/*", "*/*/*"))
    return sorted((path for path in below if _is_run(path)), key=_in_order)


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / trace).exists() for trace in TRACES)


def _in_order(path: Path) -> tuple[Path, int, str]:
    return path.parent, int(path.name) if path.name.isdigit() else -1, path.name


def _runs(folders: Iterable[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frames of runs and of epochs."""
    read_all = [_run(folder) for folder in folders]
    return table([run for run, _ in read_all], RUNS), table([row for _, rows in read_all for row in rows], EPOCHS)


def _run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's row, and those of its epochs."""
    problems: list[str] = []
    result = _tried(lambda: read_result(folder), {}, problems, "")
    history = _tried(lambda: read_metrics(folder / "metrics.csv"), [], problems, "metrics.csv: ")
    config = _tried(lambda: _yaml(folder / ".hydra" / "config.yaml"), {}, problems, "config.yaml: ")
    row = {name: _at(result, key) for name, key in RESULT.items()}
    row |= {"run": folder, "problem": "; ".join(problems), "epochs_done": len(history)}
    row["train_seconds"] = sum(epoch.seconds for epoch in history)
    row |= {f"config.{key}": value for key, value in _flat(config)}
    return row, [{"run": folder, **asdict(epoch)} for epoch in history]


def _tried(reading: Any, otherwise: Any, problems: list[str], what: str) -> Any:
    """What a file holds; of one that cannot be read, nothing, and its problem is noted."""
    try:
        return reading()
    except (ResultsError, OSError, ValueError, TypeError, KeyError, csv.Error, yaml.YAMLError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        problems.append(f"{what}{told or type(error).__name__}")
        return otherwise


def _yaml(path: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C it takes a tenth of the time
    loaded = yaml.load(path.read_text("utf-8"), loader)
    if not isinstance(loaded, dict):
        raise ValueError("holds no settings")
    return loaded


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its full key; lists as JSON."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value


def _at(nested: Any, key: str) -> Any:
    """What a nested dict holds at a dotted key; None where there is nothing."""
    for name in key.split("."):
        nested = nested.get(name) if isinstance(nested, dict) else None
    return nested

"""Where a study is kept: an Optuna storage, opened from its URL or resolved from a folder."""

from __future__ import annotations

import copy
import itertools
import os
import re
import shlex
import sqlite3
import time
import warnings
from collections.abc import Collection
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import unquote

import optuna
import yaml
from filelock import FileLock
from optuna.exceptions import OptunaError, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from cifar.commands import argument, install
from cifar.errors import UserError
from cifar.formatting import first_line

SQLITE, JOURNAL = "sqlite:///", "journal:///"
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "fuse.sshfs")
SQLITE_TIMEOUT = 120
"""Seconds that a writer waits for the other writers."""
SQLITE_OPTIONS = {"timeout", "uri", "mode", "cache", "isolation_level", "check_same_thread", "cached_statements", "vfs"}
"""What may follow a ? in the URL of a SQLite file."""
OPTION_VALUE = re.compile(r"[\w-]+|\d+\.\d+")
HYDRA_SETTINGS = Path(".hydra") / "hydra.yaml"
"""Hydra's settings of a run, in its directory."""
CONNECTION_ATTEMPTS = 5
"""Attempts to open a database whose tables another process may be creating."""
STORAGE_ERRORS = (OptunaError, SQLAlchemyError, ImportError, OSError, RuntimeError, ValueError)
"""What Optuna and SQLAlchemy raise for a storage that cannot be read."""


class StudyError(UserError):
    """A study that cannot be used: other settings under the same name, or a storage that cannot be opened."""


class Location(NamedTuple):
    """Where a study is: the URL of its storage, its folder and its name; None for what is not known."""

    url: str | None
    folder: Path | None
    name: str | None


def open_storage(url: str, create: bool = True) -> BaseStorage:
    """Open an Optuna storage: a database URL, or journal:///FILE.

    With `create`, missing tables are created, so hold `folder_lock`. Without, the storage is opened to be read: a
    missing file or table is not created. Raises StudyError where the storage cannot be opened.
    """
    if not create:
        return _existing(url)
    if url.startswith(JOURNAL):
        return JournalStorage(JournalFileBackend(url.removeprefix(JOURNAL)))
    if url.startswith(SQLITE):
        return _sqlite(url)
    return _server(url)


def _existing(url: str) -> BaseStorage:
    for scheme in (SQLITE, JOURNAL):
        if url.startswith(scheme) and not file_of(url).exists():
            raise _unreadable(url, "no such file")  # Optuna would create it
    try:
        if url.startswith(JOURNAL):
            return JournalStorage(JournalFileBackend(url.removeprefix(JOURNAL)))
        return _rdb(url, create=False)
    except STORAGE_ERRORS as error:
        raise _unreadable(url, _reason(error)) from None


def _reason(error: BaseException) -> str:
    return first_line(error.__cause__ or error)


def _unreadable(url: str, reason: str) -> StudyError:
    if "optuna storage upgrade" in reason or "no such column" in reason:
        upgrade = shlex.join(["optuna", "storage", "upgrade", "--storage", url])
        return StudyError(
            f"{url}: written by an older version of Optuna, whose tables differ; copy it, then bring it up to date:"
            f" {upgrade}"
        )
    return StudyError(f"{url}: holds no study that Optuna can read ({reason})")


def _sqlite(url: str) -> BaseStorage:
    path = file_of(url)
    kind = file_system(path.resolve(), Path("/proc/mounts"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise StudyError(
            f"{path}: on a network file system ({kind}), where SQLite loses data; allowed: a local folder"
            " (hydra.sweep.dir=DIR), or a server (hydra.sweeper.storage=postgresql://USER@HOST/DATABASE)"
        )
    try:
        return _rdb(url)
    except STORAGE_ERRORS as error:
        raise StudyError(
            f"hydra.sweeper.storage={url}: cannot be opened ({_reason(error)}); allowed:"
            " sqlite:///FILE, a new file or one that is not damaged, in a folder that is there and can be written"
        ) from error


def _rdb(url: str, create: bool = True) -> RDBStorage:
    """Optuna's storage in a database; a SQLite file may have any name, though ? % { have a meaning in a URL.

    When several processes open a new one at once, all but one have to try again: Optuna stamps its version into it
    whether it is opened to be written or to be read.
    """
    options: dict[str, Any] = {"skip_table_creation": not create}
    if url.startswith(SQLITE):
        if _has_options(url) and not Path(url.removeprefix(SQLITE)).exists():
            options["engine_kwargs"] = {"connect_args": {"timeout": SQLITE_TIMEOUT}}
        else:
            connect = partial(sqlite3.connect, file_of(url), timeout=SQLITE_TIMEOUT, check_same_thread=False)
            url, options["engine_kwargs"] = f"{SQLITE}study.db", {"creator": connect}
    for attempt in itertools.count(1):
        try:
            return RDBStorage(url, **options)
        except (SQLAlchemyError, StorageInternalError) as error:
            if attempt == CONNECTION_ATTEMPTS or not _is_race(error, create):
                raise
            time.sleep(attempt / 2)
    raise AssertionError("unreachable")


def _is_race(error: Exception, create: bool) -> bool:
    """Whether another process may have created the same table, or stamped the same version, a moment before."""
    if create and isinstance(error, (ProgrammingError, StorageInternalError)):
        return True
    return isinstance(error, IntegrityError) or "already exists" in str(error)


def file_of(url: str) -> Path:
    """The file that sqlite:///FILE or journal:///FILE names.

    FILE is taken as it is written. Where there is no such file, it is read as SQLAlchemy reads it, which decodes %20
    and takes what follows a ? for options, if there is a file of that name or if these are options.
    """
    scheme = JOURNAL if url.startswith(JOURNAL) else SQLITE
    path = Path(url.removeprefix(scheme))
    if scheme == JOURNAL or path.exists():
        return path
    decoded = Path(unquote(make_url(url).database or ""))
    return decoded if decoded.is_file() or _has_options(url) else path


def _has_options(url: str) -> bool:
    options = make_url(url).query
    values = [str(value) for value in options.values()]
    return SQLITE_OPTIONS.issuperset(options) and any(values) and all(map(OPTION_VALUE.fullmatch, values))


def _server(url: str) -> BaseStorage:
    try:
        return _rdb(url)
    except STORAGE_ERRORS as error:
        raise StudyError(
            f"hydra.sweeper.storage={url}: cannot be opened ({first_line(error)}); allowed:"
            " sqlite:///FILE, journal:///FILE, postgresql://USER@HOST/DATABASE and what else SQLAlchemy knows,"
            f" with its driver installed ({install('postgresql')})"
        ) from error


def file_system(path: Path, mounts: Path) -> str:
    """The type of the file system that holds `path`, from a table like /proc/mounts; empty where there is no table."""
    if not mounts.exists():
        return ""
    kind, longest = "", 0
    for line in mounts.read_text("utf-8").splitlines():
        mount_point, mount_kind = line.split()[1:3]
        if path.is_relative_to(mount_point.replace("\\040", " ")) and len(mount_point) > longest:
            kind, longest = mount_kind, len(mount_point)
    return kind


def folder_lock(folder: Path) -> FileLock:
    """The lock of a study's folder. The operating system releases it when the process that holds it dies."""
    return FileLock(folder / ".lock")


def open_study(url: str, name: str | None) -> optuna.Study:
    """Open a study to read it; without a name, the only one of the storage. Nothing is created or changed.

    Raises StudyError where it cannot be read.
    """
    try:
        storage = open_storage(url, create=False)
        names = [study.study_name for study in storage.get_all_studies()]
    except STORAGE_ERRORS as error:
        raise _unreadable(url, _reason(error)) from None
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        problem = f"study {name}: not in {url}" if name else f"{url}: holds {len(names)} studies"
        allowed = "--study " + ", ".join(map(shlex.quote, names)) if names else "a storage with a study"
        raise StudyError(f"{problem}; allowed: {allowed}")
    return _read(url, optuna.load_study(study_name=name, storage=storage))


def _read(url: str, study: optuna.Study) -> optuna.Study:
    """The study, once its trials can be read: tables of an old version lack columns. They are cached for later."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of choices that are lists: the study has them, whoever reads it
            study.get_trials(deepcopy=False)
    except STORAGE_ERRORS as error:
        raise _unreadable(url, _reason(error)) from None
    finally:
        optuna.logging.set_verbosity(verbosity)
    return study


def read_trials(study: optuna.Study, adopted: Collection[int] | None = None) -> list[FrozenTrial]:
    """The trials of a study, with the attributes that are true of them in it.

    A failed trial that another one replaces has the outcome replaced. Of `adopted` trials (by default, those that the
    study says it adopted), which ended before the first search, no attribute is read; failed ones are withdrawn.
    """
    trials = study.get_trials(deepcopy=False)
    numbers = study.user_attrs.get("adopted", ()) if adopted is None else adopted
    replaced = [trial.user_attrs.get("replaces") for trial in trials if trial.user_attrs.get("outcome") != "withdrawn"]
    read = []
    for trial in trials:
        has_failed = trial.state == TrialState.FAIL
        if trial.number in numbers:
            trial = _with_attributes(trial, {"outcome": "withdrawn"} if has_failed else {})
        elif has_failed and trial.number in replaced:
            trial = _with_attributes(trial, trial.user_attrs | {"outcome": "replaced"})
        read.append(trial)
    return read


def _with_attributes(trial: FrozenTrial, attributes: dict[str, Any]) -> FrozenTrial:
    """A copy, as the trial itself is in Optuna's cache."""
    changed = copy.copy(trial)
    changed.user_attrs = attributes
    return changed


def another_study(name: str, folder: Path, taken: Collection[str] = ()) -> str:
    """What to add to a command line for a study of another name, in another folder; neither is there yet.

    `taken` are the names in the storage.
    """
    candidates = (f"{name}-{number}" for number in itertools.count(2))
    other = next(c for c in candidates if c not in taken and not folder.with_name(PurePath(c).name).exists())
    settings = [argument("hydra.sweeper.study_name", other)]
    if folder.name != PurePath(name).name:  # hydra.sweep.dir is given: two studies cannot share it
        settings.append(argument("hydra.sweep.dir", os.path.relpath(folder.with_name(PurePath(other).name))))
    return " ".join(settings)


def resolve_location(place: str) -> Location:
    """Where the study is that `place` means: a storage URL, a SQLite file, or the folder of a search.

    A folder without study.db is looked up in the Hydra settings of its first trial, which name the storage; where they
    do not, the URL is None. Raises StudyError where there is no such folder or its settings cannot be read.
    """
    if "://" in place:
        file = file_of(place) if place.startswith(SQLITE) else Path()
        return Location(place, file.parent if file.name == "study.db" else None, None)
    path = Path(place)
    if path.is_file():
        return Location(f"{SQLITE}{path}", path.parent if path.name == "study.db" else None, None)
    if not path.is_dir():
        raise StudyError(f"{place}: no such folder; allowed: a folder of a sweep, of a run or of a grid, or a URL")
    if (path / "study.db").exists():
        return Location(f"{SQLITE}{path / 'study.db'}", path, None)
    sweeper = _sweeper_settings(path)
    return Location(sweeper.get("storage"), path, sweeper.get("study_name"))


def _sweeper_settings(folder: Path) -> dict[str, Any]:
    """The settings of the sweeper in the hydra.yaml of one of the folder's trials; empty where there are none.

    hydra.sweep.subdir says how deep the trials are: deeper ones are of another study, in a folder below.
    """
    for depth in range(1, 4):
        folders = [folder / "0", *sorted(folder.glob("/".join("*" * depth)))]
        path = next((path for path in (place / HYDRA_SETTINGS for place in folders) if path.exists()), None)
        hydra = _hydra_settings(path) if path else {}
        subdir = _mapping(hydra.get("sweep")).get("subdir", "${hydra.job.num}")
        if path and len(PurePath(str(subdir)).parts) == depth:
            return _mapping(hydra.get("sweeper"))
    return {}


def _hydra_settings(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.load(path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    return _mapping(_mapping(settings).get("hydra"))


def _mapping(value: Any) -> dict[str, Any]:
    """The value, where it is a mapping; else an empty one."""
    return value if isinstance(value, dict) else {}

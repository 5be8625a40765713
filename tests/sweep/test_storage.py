from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError

from cifar.sweep import storage
from cifar.sweep.storage import (
    Location,
    StudyError,
    another_study,
    file_system,
    open_storage,
    open_study,
    resolve_location,
)


def test_sqlite_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "file_system", lambda path, mounts: "nfs4")
    with pytest.raises(StudyError, match=r"nfs4.*postgresql"):
        open_storage(f"sqlite:///{tmp_path}/study.db")


def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/sdb /home/me/my\\040disk xfs rw 0 0\n"
    )
    assert file_system(Path("/home/me/study.db"), mounts) == "nfs4"
    assert file_system(Path("/home/me/my disk/study.db"), mounts) == "xfs"
    assert file_system(Path("/homes/study.db"), mounts) == "ext4"
    assert file_system(Path("/x"), tmp_path / "none") == ""


def test_an_unknown_storage_is_refused_with_those_allowed() -> None:
    with pytest.raises(StudyError, match=r"bogus://x.*sqlite:///FILE"):
        open_storage("bogus://x")


@pytest.mark.parametrize("url", ["sqlite:///{}/study.db", "journal:///{}/study.log"])
def test_a_storage_that_is_only_read_is_not_created(tmp_path: Path, url: str) -> None:
    with pytest.raises(StudyError, match=r"holds no study that Optuna can read \(no such file\)"):
        open_storage(url.format(tmp_path), create=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["nonsense", "bogus://x", "sqlite:///{}/damaged.db"])
def test_what_cannot_be_read_is_named(tmp_path: Path, url: str) -> None:
    (tmp_path / "damaged.db").write_text("not a database" * 100)
    with pytest.raises(StudyError, match="holds no study that Optuna can read"):
        open_study(url.format(tmp_path), None)


@pytest.mark.parametrize("create", [True, False], ids=["writer", "reader"])
def test_a_database_that_another_process_stamps_at_the_same_moment_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, create: bool
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="one", storage=url)
    lost = []

    def lose_once(*args: Any, **options: Any) -> RDBStorage:
        if not lost:
            lost.append(args)
            raise IntegrityError("INSERT INTO alembic_version", {}, sqlite3.IntegrityError("UNIQUE constraint failed"))
        return RDBStorage(*args, **options)

    monkeypatch.setattr(storage, "RDBStorage", lose_once)
    assert [study.study_name for study in open_storage(url, create).get_all_studies()] == ["one"]
    assert lost


def test_another_study_has_another_name_and_folder(tmp_path: Path) -> None:
    (tmp_path / "exp-2").mkdir()
    assert another_study("exp", tmp_path / "exp") == "hydra.sweeper.study_name=exp-3"
    assert another_study("team/exp", tmp_path / "exp") == "hydra.sweeper.study_name=team/exp-3"


def test_a_study_is_opened_by_name_or_as_the_only_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="one", storage=url)
    assert open_study(url, None).study_name == "one"
    optuna.create_study(study_name="two", storage=url)
    assert open_study(url, "two").study_name == "two"
    with pytest.raises(StudyError, match="holds 2 studies; allowed: --study one, two"):
        open_study(url, None)
    with pytest.raises(StudyError, match="study three: not in"):
        open_study(url, "three")


def test_a_place_is_resolved_to_its_storage_folder_and_study(tmp_path: Path) -> None:
    search, server = tmp_path / "search", tmp_path / "server"
    (server / "0" / ".hydra").mkdir(parents=True)
    search.mkdir()
    (search / "study.db").touch()
    settings = "hydra: {sweeper: {storage: 'postgresql://u@h/d', study_name: s}}"
    (server / "0" / ".hydra" / "hydra.yaml").write_text(settings)
    url = f"sqlite:///{search}/study.db"
    assert resolve_location(str(search)) == Location(url, search, None)
    assert resolve_location(url) == Location(url, search, None)
    assert resolve_location(str(search / "study.db")) == Location(url, search, None)
    assert resolve_location(str(server)) == Location("postgresql://u@h/d", server, "s")
    assert resolve_location(str(tmp_path)) == Location(None, tmp_path, None)
    assert resolve_location("postgresql://u@h/d") == Location("postgresql://u@h/d", None, None)


def test_a_place_that_cannot_be_resolved_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such folder; allowed:"):
        resolve_location(str(tmp_path / "nowhere"))
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    (tmp_path / "0" / ".hydra" / "hydra.yaml").write_text("hydra: [")
    with pytest.raises(StudyError, match=r"hydra\.yaml: not YAML"):
        resolve_location(str(tmp_path))

"""The user's folder of images stays as it is, whatever is done with it; what cannot be read is named beside it."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from analysis import report
from cifar import export, predict
from cifar.compose import recorded_splits
from cifar.data.unreadable import UnreadableError
from cifar.experiment import run
from cifar.options.check import check
from cifar.options.option import ConfigError
from cifar.options.outside import check_outside
from cifar.reporting import NO_REPORTER

MakeFolder = Callable[..., Path]
MODEL = ("model.depths=[1]", "model.width=4", "epochs=1", "batch_size=4", "device=cpu", "threads=1", "precision=fp32")


def state_of(folder: Path) -> dict[str, tuple[str, int, int]]:
    """What is in a folder: checksums and times of changes, of contents and of names."""
    state = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        state[str(path)] = (content, status.st_mtime_ns, status.st_ctime_ns)
    return state


@pytest.fixture
def photos(make_folder: MakeFolder) -> Path:
    """A folder with parts, and with two files in each that cannot be read."""
    folder = make_folder("photos", parts=("train", "validation", "test"), each=6, size=(16, 16))
    for part in ("train", "validation", "test"):
        for name in ("a.png", "b.jpg"):
            (folder / part / "cat" / name).write_bytes(b"x")
    return folder


def test_a_run_a_prediction_and_an_export_leave_it_unchanged(
    photos: Path, compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state_of(photos)
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "run"
    data = ("data=image_folder", f"data.root={photos}", f"cache.dir={tmp_path / 'cache'}", "test=true")
    place.mkdir()
    with pytest.raises(UnreadableError) as caught:
        run(check(compose(*data, *MODEL)), str(place), NO_REPORTER)
    assert str(caught.value).endswith(f"All are in {place / 'unreadable.csv'}")
    with (place / "unreadable.csv").open(newline="") as lines:
        rows = [(row["part"], row["file"]) for row in csv.DictReader(lines)]
    folders = {"train": "train", "val": "validation", "test": "test"}
    assert rows == [(part, f"{folders[part]}/cat/{name}") for part in folders for name in ("a.png", "b.jpg")]

    run(check(compose(*data, *MODEL, "data.unreadable=skip")), str(place), NO_REPORTER)
    result = json.loads((place / "result.json").read_text())
    facts = result["data"]["unreadable"] | result["test"]["unreadable"]
    assert {part: (each["files"], len(each["names"])) for part, each in facts.items()} == dict.fromkeys(folders, (2, 2))
    assert len((place / "unreadable.csv").read_text().splitlines()) == 7

    with pytest.raises(predict.PredictError, match="6 of 42 files could not be read"):
        predict.main([str(place), str(photos), "--csv", str(tmp_path / "out.csv"), "--device", "cpu"])
    export.main([str(place), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")])
    assert state_of(photos) == before


def test_an_export_or_a_report_into_it_is_refused(
    make_folder: MakeFolder, compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, fixes = make_folder(each=6), tmp_path / "fixes.csv"
    fixes.write_text("file,action,label\ntrain/cat/0.png,drop,\n")
    keys = ("data=image_folder", f"data.root={root}", "data.val_size=4", f"data.fixes={fixes}")
    cfg = compose(*keys, f"cache.dir={tmp_path / 'cache'}", *MODEL)
    (tmp_path / "run").mkdir()
    run(check(cfg), str(tmp_path / "run"), NO_REPORTER, settings={"config.yaml": OmegaConf.to_yaml(cfg)})
    monkeypatch.chdir(root)
    with pytest.raises(ConfigError, match=r"--out model\.safetensors: inside of data\.root="):
        export.main([str(tmp_path / "run"), "--format", "safetensors"])
    with pytest.raises(SystemExit, match=r"--out here: inside of data\.root="):
        report.main([str(tmp_path / "run"), "--out", "here"])
    fixes.unlink()  # the run has its copy
    assert len(recorded_splits(tmp_path / "run").train) == 7 and [path.name for path in root.iterdir()] == ["train"]


@pytest.mark.parametrize("output", [".", "outputs", "photos2", "photos/../outputs", "outside/link"])
def test_places_beside_it_and_above_it_are_allowed(output: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "link").symlink_to(tmp_path)
    check_outside(str(photos), {"hydra.run.dir": tmp_path / output})
    check_outside(None, {"hydra.run.dir": photos})
    check_outside(str(photos / "train" / "cat" / "0.png"), {"hydra.run.dir": photos})  # as of an archive


def test_an_archive_is_trained_on_where_it_lies(photos: Path, compose: Any, tmp_path: Path) -> None:
    file = shutil.make_archive(str(tmp_path / "photos"), "gztar", tmp_path, "photos")
    before = state_of(Path(file).parent / "photos")
    data = ("data=image_folder", f"data.root={file}", f"cache.dir={tmp_path / 'cache'}", "test=true")
    (tmp_path / "run").mkdir()
    value = run(check(compose(*data, *MODEL, "data.unreadable=skip")), str(tmp_path / "run"), NO_REPORTER)
    assert 0 <= value <= 1 and state_of(photos) == before
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["data"]["val"]["images"] == result["test"]["images"] == 12

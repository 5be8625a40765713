"""What a report says of folds, of groups, and of images on both sides of a split."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import optuna
import yaml
from test_frames import write_run

from analysis import summary
from analysis.frames import Frames, of_study, read
from analysis.pages import run as one_run
from analysis.pages import runs as several
from analysis.pages import study as search
from analysis.schema import CONFIRMATION_RUNS, TESTS, table

COPIES = "7 of 500 validation images are also training images (identical pixels)"


def write(folder: Path, fold: int, lr: float = 0.1, accuracy: float = 0.5, copies: int | None = None) -> Path:
    write_run(folder, accuracy=accuracy)
    data = {"source": "image_folder", "val_size": 0.1, "folds": 3, "fold": fold, "groups": r"regex:p\d+", "limit": None}
    settings = {"data": data, "optimizer": {"lr": lr}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(settings))
    result = json.loads((folder / "result.json").read_text())
    result["data"]["val"] |= {"fingerprint": f"fold {fold}"} | ({} if copies is None else {"also_in_train": copies})
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_runs_of_several_folds_are_compared_by_their_means(tmp_path: Path) -> None:
    for number in range(6):
        fold, lr = number % 3, (0.1, 0.01)[number // 3]
        write(tmp_path / str(number), fold, lr, 0.5 + fold / 10 + lr)
    report = several.report_of(read(tmp_path))
    assert report.table["runs"].tolist() == ["3", "3"] and "data.fold" not in report.table
    assert report.table["mean validation accuracy"].tolist() == ["0.7300", "0.6400"]
    assert any(fact.label == "noise between seeds and folds" for fact in report.facts)
    assert any("compare the means over the folds" in step for step in report.next_steps)
    assert not any("different images" in step for step in report.next_steps)
    result = json.loads((tmp_path / "5" / "result.json").read_text())
    result["data"]["val"]["fingerprint"] = "others"
    (tmp_path / "5" / "result.json").write_text(json.dumps(result))
    assert any("different images" in step for step in several.report_of(read(tmp_path)).next_steps)


def test_a_run_shows_its_split_and_its_copies(tmp_path: Path) -> None:
    report = one_run.report_of(read(write(tmp_path / "run", 2, copies=7)))
    settings = dict(zip(report.table.setting, report.table.value, strict=True))
    assert (settings["data.folds"], settings["data.fold"], settings["data.groups"]) == ("3", "2", r"regex:p\d+")
    assert "data.val_size" not in settings and report.next_steps[0].startswith(COPIES)
    for copies in (0, None):
        report = one_run.report_of(read(write(tmp_path / f"run{copies}", 2, copies=copies)))
        assert not any("identical" in step for step in report.next_steps)


def test_a_run_shows_copies_in_its_test_part_and_its_augmentation(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", 2)
    config = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    config |= {"augment": {"policy": "trivial", "crop": None}, "data": config["data"] | {"image_size": 48}}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    result = json.loads((folder / "result.json").read_text())
    result["test"] = {"accuracy": 0.5, "images": 100, "also_in_train": 3}
    (folder / "result.json").write_text(json.dumps(result))
    report = one_run.report_of(read(folder))
    assert report.next_steps[0].startswith("3 of 100 test images are also training images (identical pixels)")
    settings = dict(zip(report.table.setting, report.table.value, strict=True))
    assert (settings["augment.policy"], settings["data.image_size"]) == ("trivial", "48")
    assert "augment.crop" not in settings and "data.folds" in settings


def test_a_confirmed_search_says_that_test_images_were_trained_on(tmp_path: Path) -> None:
    fresh = [{"number": 0, "reported": 0.53, "seed": seed, "score": 0.5 + seed / 100, "run": ""} for seed in (1, 2)]
    looks = [row | {"look": 1, "accuracy": 0.5, "images": 100, "also_in_train": 3} for row in fresh]
    tables = {"fresh": table(fresh, CONFIRMATION_RUNS), "tests": table(looks, TESTS)}
    frames = dataclasses.replace(searched(tmp_path), chosen=0, looks=1, **tables)
    answer = summary.summarize(frames)
    lines = [line for line in summary.text(answer).splitlines() if "identical pixels" in line]
    assert [line.split(" are ")[0] for line in lines] == ["  7 of 500 validation images", "  3 of 100 test images"]
    assert len([step for step in search.report_of(frames).next_steps if "identical pixels" in step]) == 2


def searched(folder: Path) -> Frames:
    study = optuna.create_study(direction="maximize", study_name="s")
    trial = study.ask()
    trial.set_user_attr("folder", "0")
    study.tell(trial, 0.53)
    write(folder / "0", 1, copies=7)
    return of_study(study, folder=folder)


def test_a_search_says_that_validation_images_were_trained_on(tmp_path: Path) -> None:
    frames = searched(tmp_path)
    assert frames.runs.also_in_train.tolist() == [7]
    assert COPIES in summary.text(summary.summarize(frames))
    assert search.report_of(frames).next_steps[0].startswith(COPIES)

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
from analysis.pages import several as comparison
from analysis.pages import study as search
from analysis.schema import CONFIRMATION_RUNS, TESTS, table
from analysis.sections import Context, Place, confirmation
from cifar.intervals import mean_interval

COPIES = "7 of 500 validation images are also training images (identical pixels at the input size)"


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
    assert report.facts[0].label == "validation accuracy, mean over 3 folds" and report.facts[0].value == "0.7300"
    assert report.facts[0].note == "0.4816 to 0.9784 · optimizer.lr=0.1 · 3 runs"
    assert any(fact.label == "noise between folds" for fact in report.facts)
    assert any("compare the means over the folds" in step for step in report.next_steps)
    assert not any("different images" in step for step in report.next_steps)
    result = json.loads((tmp_path / "5" / "result.json").read_text())
    result["data"]["val"]["fingerprint"] = "others"
    (tmp_path / "5" / "result.json").write_text(json.dumps(result))
    assert any("different images" in step for step in several.report_of(read(tmp_path)).next_steps)


def test_runs_with_a_time_repeat_one_setting_whatever_the_clock_allowed(tmp_path: Path) -> None:
    for fold in range(3):
        folder = write(tmp_path / str(fold), fold)
        for file, more in (
            (folder / ".hydra" / "config.yaml", {"time": "10m"}),
            (folder / "result.json", {"epochs": fold + 9}),
        ):
            file.write_text(json.dumps(yaml.safe_load(file.read_text()) | more))
    report = several.report_of(read(tmp_path))
    assert report.facts[0].label == "validation accuracy, mean over 3 folds"
    assert not any("folds have a result" in step for step in report.next_steps)


def test_missing_folds_are_named_and_their_settings_come_last(tmp_path: Path) -> None:
    for number, fold in enumerate((0, 2)):
        write(tmp_path / str(number), fold, accuracy=0.5)
    report = several.report_of(read(tmp_path))
    assert report.facts[0].label == "validation accuracy, mean over 2 of 3 folds"
    assert report.table["folds"].tolist() == ["2 of 3"]
    assert any("Only 2 of 3 folds have a result" in step and "data.fold=1" in step for step in report.next_steps)
    for fold in range(3):
        write(tmp_path / str(fold + 2), fold, 0.01, 0.4)
    report = several.report_of(read(tmp_path))
    assert report.table["folds"].tolist() == ["3 of 3", "2 of 3"] and "optimizer.lr=0.01" in report.facts[0].note
    assert any("without a result of every fold" in step for step in report.next_steps)


def test_runs_of_one_fold_are_no_grid_of_folds(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / str(number), 0, accuracy=0.5 + number / 10)
    report = several.report_of(read(tmp_path))
    assert report.facts[0].value == "0.6300"
    assert any("one fold, 1 of 3 folds" in step and "data.fold=1,2" in step for step in report.next_steps)


def test_the_seeds_of_a_fold_are_one_value_of_the_interval(tmp_path: Path) -> None:
    for number in range(4):
        fold, seed = divmod(number, 2)
        folder = write(tmp_path / str(number), fold, accuracy=0.4 + fold / 10 + seed / 50)
        config = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
        config["data"]["folds"] = 2
        (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config | {"seed": seed}))
    report = several.report_of(read(tmp_path))
    mean, low, high = mean_interval([0.44, 0.54])
    assert low < 0 < mean < 1 < high
    assert report.facts[0].value == f"{mean:.4f}" and report.facts[0].note == "0.0000 to 1.0000 · 4 runs"
    assert report.table["95% interval"].tolist() == ["0.0000 to 1.0000"]
    assert any("1 degree of freedom" in fact.note for fact in report.facts)


def test_the_mean_loss_over_folds_is_not_below_0(tmp_path: Path) -> None:
    for fold, loss in enumerate((0.1, 0.1, 2.0)):
        folder = write(tmp_path / str(fold), fold)
        result = json.loads((folder / "result.json").read_text())
        result["best"]["val_loss"] = loss
        (folder / "result.json").write_text(json.dumps(result | {"objective": "loss"}))
    loss_fact, accuracy = several.report_of(read(tmp_path)).facts[:2]
    assert loss_fact.label == "validation loss, mean over 3 folds" and loss_fact.value == "0.7333"
    assert loss_fact.note.startswith("0.0000 to 3.4") and accuracy.label.startswith("validation accuracy, mean over")


def test_a_grid_of_folds_offers_to_train_without_folds(tmp_path: Path) -> None:
    for fold in range(3):
        folder = write(tmp_path / str(fold), fold)
        overrides = ["data=image_folder", "data.folds=3", f"++data.fold={fold}"]
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    report = several.report_of(read(tmp_path))
    assert report.command.endswith("run.py data=image_folder data.folds=null data.fold=null")
    assert any("trains without folds" in step and "all folds but that one" in step for step in report.next_steps)


def test_grids_of_folds_are_compared_by_their_means(tmp_path: Path) -> None:
    for name, accuracies in {"a": (0.2, 0.2, 0.8), "b": (0.5, 0.5, 0.5)}.items():
        for fold, accuracy in enumerate(accuracies):
            write(tmp_path / name / str(fold), fold, accuracy=accuracy)
    report = comparison.report_of([read(tmp_path / "a"), read(tmp_path / "b")])
    assert report.facts[0].value == "0.5300" and "mean over 3 folds" in report.facts[0].note
    assert not any("different images" in step for step in report.next_steps)


def test_a_run_shows_the_objective_on_the_test_set(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", epochs=1)
    result = json.loads((folder / "result.json").read_text())
    result |= {"objective": "macro_f1", "test": {"accuracy": 0.5, "macro_f1": 0.4321, "images": 100}}
    result["best"] |= {"val_macro_f1": 0.44}
    (folder / "result.json").write_text(json.dumps(result))
    report = one_run.report_of(read(folder))
    facts = {fact.label: fact.value for fact in report.facts}
    assert facts["test macro F1"] == "0.4321" and facts["test accuracy"] == "0.5000"
    assert "1 of 1 epoch," in report.counts


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
    assert report.next_steps[0].startswith(
        "3 of 100 test images are also training images (identical pixels at the input size)"
    )
    settings = dict(zip(report.table.setting, report.table.value, strict=True))
    assert (settings["augment.policy"], settings["data.image_size"]) == ("trivial", "48")
    assert "augment.crop" not in settings and "data.folds" in settings


def test_a_confirmed_search_says_that_test_images_were_trained_on(tmp_path: Path) -> None:
    fresh = [{"number": 0, "reported": 0.53, "seed": seed, "score": 0.5 + seed / 100, "run": ""} for seed in (1, 2)]
    looks = [row | {"look": 1, "accuracy": 0.5, "images": 100, "also_in_train": 3} for row in fresh]
    looks = [row | {"duplicates": 4, "accuracy_without": 0.48 + row["seed"] / 100} for row in looks]
    tables = {"fresh": table(fresh, CONFIRMATION_RUNS), "tests": table(looks, TESTS)}
    frames = dataclasses.replace(searched(tmp_path), chosen=0, looks=1, **tables)
    answer = summary.summarize(frames)
    lines = [line for line in summary.text(answer).splitlines() if "identical pixels" in line]
    assert [line.split(" are ")[0] for line in lines] == ["  7 of 500 validation images", "  3 of 100 test images"]
    steps = search.report_of(frames).next_steps
    assert len([step for step in steps if "identical pixels" in step]) == 2
    without = "est accuracy 0.4950 without the 4 test images that are training images too (data.check_duplicates)"
    assert without in summary.text(answer) and any(without in step for step in steps)


def test_no_interval_over_fresh_seeds_leaves_what_the_metric_can_be(tmp_path: Path) -> None:
    fresh = [
        {"number": 0, "reported": 0.53, "seed": seed, "score": score, "run": ""} for seed, score in ((1, 0.1), (2, 0.8))
    ]
    frames = dataclasses.replace(searched(tmp_path), chosen=0, fresh=table(fresh, CONFIRMATION_RUNS))
    assert "on 2 fresh seeds (0.0000 to 1.0000), the best mean of 1 candidate;" in summary.text(
        summary.summarize(frames)
    )
    section = confirmation.section(Context("study", [Place("s", frames)]))
    assert section is not None and section.table["95% interval"].tolist() == ["0.0000 to 1.0000"]


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

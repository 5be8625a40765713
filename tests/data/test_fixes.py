"""data.fixes drops, relabels and groups images as they are loaded; split.csv records and binds the parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cifar.data import known, split_file
from cifar.data.cells import safe_cell
from cifar.data.fixes import COLUMNS, read_fixes
from cifar.data.images import DataError
from cifar.data.unreadable import UnreadableError
from cifar.experiment import run
from cifar.files import csv_bytes
from cifar.options.config import Config
from cifar.options.option import ConfigError
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources
from cifar.results import read_result
from cifar.run_data import load_images, load_splits, load_test_images, with_recorded_fixes

Make = Callable[..., Config]


@pytest.fixture
def of_folder(settings: Make, make_folder: Callable[..., Path], tmp_path: Path) -> Make:
    """A config of 20 images in two classes, of which 4 are validated on, and 4 to test on."""
    root = make_folder(each=10)
    for name in ("cat", "dog"):
        (root / "test" / name).mkdir(parents=True)
        for number in range(2):
            content = (root / "train" / name / f"{number}.png").read_bytes()
            (root / "test" / name / f"{number}.png").write_bytes(content)

    def make(*fixes: str, more: tuple[str, ...] = ()) -> Config:
        file = tmp_path / "fixes.csv"
        file.write_text("\n".join(["file,action,label,kind", *fixes, ""]))
        keys = ("data=image_folder", f"data.root={root}", "data.val_size=0.2", f"cache.dir={tmp_path / 'cache'}")
        return settings(*keys, *([f"data.fixes={file}"] if fixes else []), *more)

    return make


def test_images_are_dropped_and_relabelled(of_folder: Make) -> None:
    splits = load_splits(of_folder("train/cat/0.png,drop,,dark", "train/cat/1.png,relabel,dog,label"), Resources())
    plain = load_splits(of_folder(), Resources())
    labels = {name: part.classes[label] for part in (splits.train, splits.val) for name, label in
              zip(part.names, part.labels.tolist(), strict=True)}  # fmt: skip
    assert "train/cat/0.png" not in labels and len(labels) == 19
    assert labels["train/cat/1.png"] == "dog" and list(labels.values()).count("dog") == 11
    assert splits.train.fingerprint != plain.train.fingerprint


def test_groups_of_fixes_stay_on_one_side_and_the_others_where_they_were(of_folder: Make) -> None:
    before = set(load_splits(of_folder(), Resources()).val.names)
    grouped = [*sorted(before)[:1], "train/cat/5.png", "train/cat/6.png"]
    after = load_splits(of_folder(*(f"{name},group,burst" for name in grouped)), Resources()).val
    assert set(grouped) <= set(after.names) or not set(grouped) & set(after.names)
    assert len(before - set(after.names) - set(grouped)) <= 2


def test_names_that_look_like_formulas_stay_as_they_are_when_a_run_copies_them(tmp_path: Path) -> None:
    names = ("=a.png", "'=a.png", "''=a.png", "'a.png", "-1/@b.png", 'c,"d".png')
    first, copy = tmp_path / "fixes.csv", tmp_path / "copy.csv"
    first.write_bytes(csv_bytes([COLUMNS, *([safe_cell(name), "relabel", "'+"] for name in names)]))
    fixes = read_fixes(str(first))
    assert tuple(fixes.by_file) == names and {fix.label for fix in fixes.all()} == {"+"}
    copy.write_bytes(fixes.content())
    assert read_fixes(str(copy)).by_file == fixes.by_file
    first.write_text("file,action,label\n=a.png,drop,\n-1/@b.png,drop,\n")  # by hand, without apostrophes
    assert tuple(read_fixes(str(first)).by_file) == ("=a.png", "-1/@b.png")


def test_rows_without_an_action_do_not_count(of_folder: Make) -> None:
    assert load_splits(of_folder("train/cat/0.png,,,dark")).train.fingerprint == (
        load_splits(of_folder()).train.fingerprint
    )


@pytest.mark.parametrize(
    "row, message",
    [
        ("train/cat/0.png,remove,", r"line 2: action is 'remove'; allowed: drop, relabel, group"),
        ("train/cat/0.png,relabel,", r"line 2: relabel without a label; give the class that it is"),
        ("train/cat/0.png,group,", r"line 2: group without a label; give a name for its group"),
        (",drop,", r"line 2: file is empty"),
        ("train/cat/0.png,relabel,bird", r"relabelled as bird, which is no class; allowed: cat, dog"),
    ],
)
def test_a_wrong_row_is_named(of_folder: Make, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_splits(of_folder(row), Resources())


def test_a_missing_file_and_a_source_without_names_are_refused(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.fixes=.*none\.csv: no such file"):
        read_fixes(str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match=r"data\.fixes=x\.csv: not with data\.source=digits"):
        settings("data=digits", "data.fixes=x.csv")


def test_a_run_records_its_split_and_fixes_and_tests_with_and_without(of_folder: Make, tmp_path: Path) -> None:
    fixes = ("train/cat/0.png,drop,", "test/dog/1.png,drop,", "test/dog/0.png,relabel,cat")
    tiny = ("test=true", "epochs=1", "model.width=2", "model.depths=[1]")
    (tmp_path / "run").mkdir()
    run(of_folder(*fixes, more=tiny), str(tmp_path / "run"), NO_REPORTER, resources=Resources())
    result = read_result(tmp_path / "run")
    assert result["data"]["fixes"]["of_test_images"] == {"drop": 1, "relabel": 1, "group": 0}
    assert (result["test"]["images"], result["test"]["without_fixes"]["images"]) == (3, 4)
    assert read_fixes(str(tmp_path / "run" / "fixes.csv")).sha256() == result["data"]["fixes"]["sha256"]
    parts = [row.part for row in split_file.read_rows(tmp_path / "run")]
    assert (parts.count("train"), parts.count("val")) == (15, 4)


def test_fixes_without_effect_are_named_and_no_others(
    of_folder: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cifar")
    rows = ("test/dog/1.png,drop,", "train/cat/nine.png,drop,", "train/cat/1.png,group,train/cat/2.png")
    alone = ("train/dog/1.png,group,burst", "test/dog/0.png,group,train/dog/2.png")
    (tmp_path / "run").mkdir()
    tiny = ("test=true", "epochs=1", "model.width=2", "model.depths=[1]")
    run(of_folder(*rows, *alone, more=tiny), str(tmp_path / "run"), NO_REPORTER, resources=Resources())
    (line,) = (message for message in caplog.messages if "drop 2" in message)
    assert line.endswith("relabel 0, group 3; not among the images that were read: train/cat/nine.png")
    (line,) = (message for message in caplog.messages if "no effect" in message)
    assert line.endswith("the file that it names: burst, train/dog/2.png")


def test_who_resumes_a_run_is_bound_to_its_split(of_folder: Make, tmp_path: Path) -> None:
    config = of_folder()
    splits = load_splits(config, Resources())
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    split_file.write(run_dir, {"train": splits.train, "val": splits.val})
    file = run_dir / "split.csv"
    exchanged = file.read_text().replace(",val,", ",x,").replace(",train,", ",val,").replace(",x,", ",train,")
    file.write_text(exchanged)
    bound = load_splits(replace(config, resume=str(run_dir)), Resources())
    assert (bound.train.names, bound.val.names) == (splits.val.names, splits.train.names)

    file.write_text("\n".join(line for line in exchanged.splitlines() if "cat/1" not in line))
    with pytest.raises(DataError, match=r"1 images are not in its split.csv, .*: train/cat/1.png; allowed"):
        load_splits(replace(config, resume=str(run_dir)), Resources())


def test_groups_that_share_an_image_become_one_and_a_label_may_name_an_image(of_folder: Make) -> None:
    chain = [f"train/cat/{number}.png" for number in range(2, 8)]
    rows = [f"{file},group,{label}" for label, file in pairwise(chain)]
    splits = load_splits(of_folder(*rows), Resources())
    groups = {
        int(splits_part.groups[index])
        for splits_part in (splits.train, splits.val)
        if splits_part.groups is not None
        for index, name in enumerate(splits_part.names)
        if name in chain
    }
    assert len(groups) == 1


def test_a_run_that_is_resumed_keeps_the_fixes_that_it_copied(of_folder: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "fixes.csv").write_text("file,action,label\ntrain/cat/0.png,drop,\n")
    config = replace(of_folder("train/cat/1.png,drop,"), resume=str(tmp_path / "run"))
    train = load_splits(with_recorded_fixes(config), Resources())
    assert {"train/cat/0.png", "train/cat/1.png"} & {*train.train.names, *train.val.names} == {"train/cat/1.png"}


def test_a_run_that_is_resumed_is_given_no_other_fixes(of_folder: Make, tmp_path: Path) -> None:
    run_directory = tmp_path / "run"
    (run_directory / ".hydra").mkdir(parents=True)
    (run_directory / "fixes.csv").write_text("file,action,label\ntrain/cat/0.png,drop,\n")
    config = replace(of_folder("train/cat/1.png,drop,"), resume=str(run_directory))
    recorded = {"data": {"source": "image_folder", "root": config.data.root, "fixes": "moved.csv"}}
    (run_directory / ".hydra" / "config.yaml").write_text(yaml.safe_dump(recorded))
    with pytest.raises(DataError, match=r"data\.fixes=.*fixes.csv: says something else than .*run/fixes\.csv"):
        with_recorded_fixes(config)
    Path(str(config.data.fixes)).write_text("file,action,label,note\ntrain/cat/0.png,drop,,the same\n")
    assert with_recorded_fixes(config).data.fixes == str(run_directory / "fixes.csv")


@pytest.mark.parametrize(
    ("part", "message"), [("train", "no image of cat is left in part train"), ("test", "no image is left in part test")]
)
def test_a_class_or_a_part_that_would_be_empty_is_refused(of_folder: Make, part: str, message: str) -> None:
    names = ("cat",) if part == "train" else ("cat", "dog")
    fixes = [f"{part}/{name}/{number}.png,drop,," for name in names for number in range(10)]
    config = of_folder(*fixes)
    with pytest.raises(DataError, match=message):
        load_test_images(config, load_splits(config, Resources()), Resources())


def test_a_broken_image_that_is_dropped_need_not_be_readable(of_folder: Make) -> None:
    broken = Path(str(of_folder().data.root)) / "train" / "cat" / "3.png"
    broken.write_bytes(b"")
    (broken.parent / "4.png").write_bytes(b"")
    config = of_folder("train/cat/3.png,drop,,")
    with pytest.raises(UnreadableError, match=r"4\.png: .*0 bytes"):
        load_splits(config, Resources())
    (broken.parent / "4.png").unlink()
    splits = load_splits(config, Resources())
    assert splits.train.unreadable.keys() == {"train/cat/3.png"}
    assert len(splits.train) + len(splits.val) == 18


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("FILE,part,class,digest\n", "line 1: FILE,part"),
        ("file,part,class,digest\na.png,Train,cat,00\n", "line 2: a.png,Train"),
        ("file,part,class,digest\na.png,train\n", "line 2: a.png,train"),
        ("\udcff", "codec"),
    ],
)
def test_a_damaged_split_is_named_with_its_line(tmp_path: Path, content: str, place: str) -> None:
    (tmp_path / "split.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=rf"split\.csv: damaged \(.*{place}.*\); allowed"):
        split_file.read_rows(tmp_path)


def test_what_became_of_the_images_of_a_split_is_named(of_folder: Make, tmp_path: Path) -> None:
    config = of_folder()
    splits = load_splits(config, Resources())
    split_file.write(tmp_path, {"train": splits.train, "val": splits.val})
    assert known.changes(tmp_path, load_images(config, Resources()), {"train", "val"}, False) == ""
    folder = Path(str(config.data.root)) / "train" / "cat"
    (folder / "0.png").rename(folder / "z.png")
    (folder / "1.png").unlink()
    assert known.changes(tmp_path, load_images(config, Resources()), {"train", "val"}, False) == (
        "images by its split.csv: 1 renamed (train/cat/0.png is train/cat/z.png),"
        " 1 missing or changed (train/cat/1.png)"
    )

"""python -m cifar.inspection on a folder with planted faults, and on what may be wrong with its arguments."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import keys, photograph

from cifar.data.exact import exact_copies
from cifar.data.fixes import read_fixes
from cifar.data.images import Images, from_arrays
from cifar.errors import UserError
from cifar.inspection.__main__ import main
from cifar.inspection.kinds import NAMES
from cifar.inspection.quality import measured_file


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "findings.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_all_planted_faults_are_findings(out: Path) -> None:
    found_in = {(row["kind"], row["file"], row["related"]) for row in rows(out)}
    cat = "train/cat"
    assert {
        ("unreadable", f"{cat}/truncated.jpg", ""),
        ("unreadable", f"{cat}/nothing.jpg", ""),
        ("duplicate", f"{cat}/copy.jpg", f"{cat}/002.jpg"),
        ("duplicate", f"{cat}/new\nline \\xff.jpg", f"{cat}/007.jpg"),
        ("conflicting_labels", "train/dog/other class.jpg", f"{cat}/003.jpg"),
        ("leak", "test/cat/leaked.jpg", f"{cat}/004.jpg"),
        ("leak", "val/cat/quality.jpg", f"{cat}/006.jpg"),
        ("near_duplicate", f"{cat}/005.jpg", f"{cat}/double.jpg"),
        ("odd_mode", f"{cat}/alpha.png", ""),
        ("blurred", f"{cat}/blurred.jpg", ""),
        ("dark", f"{cat}/dark.jpg", ""),
        ("odd_aspect", f"{cat}/wide.jpg", ""),
        ("empty", f"{cat}/-empty.jpg", ""),
    } <= found_in
    clean = {row["file"] for row in rows(out) if row["file"].rpartition("/")[2][:1].isdigit()}
    assert clean <= {f"{cat}/005.jpg"}
    assert ("small_class", "", "'=<b>&'") in {(row["kind"], row["file"], row["class"]) for row in rows(out)}


def test_the_page_is_one_file_that_reads_names_as_text(out: Path) -> None:
    page = (out / "index.html").read_text("utf-8")
    assert "=<b>" not in page and "=&lt;b&gt;&amp;&#39;" in page
    assert "src=" not in page and "http" not in page.replace("http-equiv", "")
    assert len(page) < 5_000_000


def test_the_terminal_shows_30_lines_at_most(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="--fail-on: 2 leak, 2 unreadable"):
        main(keys(folder, tmp_path, "--fail-on", "leak,unreadable,bright"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30 and lines[0].startswith("81 images (") and "index.html" in lines[-2]


def test_a_filled_table_fixes_what_the_next_inspection_sees(out: Path, folder: Path, tmp_path: Path) -> None:
    fixes = tmp_path / "fixes.csv"
    table = rows(out)
    for row in table:
        row["action"] = "drop" if row["file"] else ""
    with fixes.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    main(keys(folder, tmp_path, f"data.fixes={fixes}"))
    assert {row["kind"] for row in rows(tmp_path)} <= {"small_class", "imbalance", "fixed"}


def test_a_second_round_keeps_the_fixes_of_the_first(out: Path, folder: Path, tmp_path: Path) -> None:
    near = next(row for row in rows(out) if row["kind"] == "near_duplicate")
    first = tmp_path / "first.csv"
    chain = [f"{near['file']},group,another", f"another,group,{near['related']}"]
    first.write_text("\n".join(["file,action,label", "train/cat/dark.jpg,drop,", *chain]) + "\n")
    main(keys(folder, tmp_path, f"data.fixes={first}"))
    kinds = {(row["kind"], row["file"]) for row in rows(tmp_path)}
    assert ("near_duplicate", near["file"]) not in kinds and ("dark", "train/cat/dark.jpg") not in kinds
    assert read_fixes(str(tmp_path / "findings.csv")).all() == read_fixes(str(first)).all()


def test_the_parts_are_those_of_a_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(keys(folder, tmp_path, "data.val_from=training_part", "data.calibration_size=9", "data.val_size=8"))
    assert " 9 calibration, 17 val, " in capsys.readouterr().out.splitlines()[0]


def test_a_classifier_that_is_too_weak_for_labels_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ("model.depths=[1]", "model.width=2", "epochs=1", "threads=1", "precision=fp32")
    main(keys(folder, tmp_path, "--labels", *network))
    assert "% of 70: too weak to judge them (60% are needed); use transfer=frozen" in capsys.readouterr().out
    assert {row["part"] for row in rows(tmp_path) if row["kind"] == "label"} <= {"train", "val"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-on", "leak,leeks"], f"--fail-on leeks: no such kind; allowed: {', '.join(NAMES)}"),
        (["data.rot=1"], "data.rot"),
        (["data=folders"], "folders"),
    ],
)
def test_a_wrong_argument_is_one_error_before_anything_is_written(
    folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError) as error:
        main(keys(folder, tmp_path / "out", *arguments))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_among_the_images(folder: Path) -> None:
    with pytest.raises(UserError, match="never written to"):
        main(keys(folder, folder / "inspection"))
    assert not (folder / "inspection").exists()


def test_a_page_of_something_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("mine")
    with pytest.raises(UserError, match=r"its index\.html is not of this command; allowed: another folder"):
        main(keys(folder, tmp_path))
    assert page.read_text() == "mine"


def test_arrays_are_inspected_by_their_pixels(tmp_path: Path) -> None:
    images = np.stack([np.asarray(photograph(number, 28)) for number in range(60)])
    images[7] = images[3]
    labels = np.arange(60) % 2
    test = np.stack([images[11], np.asarray(photograph(99, 28))])
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=test, test_labels=[1, 0])
    arguments = ["data=arrays", f"data.root={tmp_path / 'a.npz'}", f"cache.dir={tmp_path / 'cache'}", "device=cpu"]
    main([*arguments, "--out", str(tmp_path / "out")])
    kinds = {(row["kind"], row["part"], row["file"], row["related"]) for row in rows(tmp_path / "out")}
    assert ("leak", "test", "test/0", "train/11") in kinds
    assert ("train/7", "train/3") in {(file, related) for _, _, file, related in kinds}


def labelled(digests: list[int], labels: list[int]) -> Images:
    import torch

    images = from_arrays(np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels), ("a", "b"))
    rows = torch.tensor(digests, dtype=torch.uint8)[:, None].repeat(1, 16)
    return Images(images.images, images.labels, images.classes, images.fingerprint, digests=rows)


def test_digests_count_copies_conflicts_and_leaks() -> None:
    train = labelled([1, 2, 2, 3, 3], [0, 0, 0, 0, 1])
    val = labelled([1, 9, 9], [0, 1, 1])
    assert exact_copies(train, val) == (4, 1, 1)
    assert str(exact_copies(train, val)) == "4 exact duplicates (1 with conflicting labels), 1 also in val"
    assert str(exact_copies(val.take(np.array([0])), val.take(np.array([1])))) == "no exact duplicates"


def test_a_common_kind_still_fails_where_it_is_asked_to_and_a_link_to_nothing_is_unreadable(tmp_path: Path) -> None:
    for number in range(12):
        place = tmp_path / "images" / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(photograph(number, 40))
        Image.fromarray(pixels // 16 if number < 6 else pixels).save(place / f"{number}.png")
    (place / "link.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"--fail-on: 6 dark, 1 unreadable"):
        main(keys(tmp_path / "images", tmp_path / "out", "--fail-on", "dark,unreadable"))
    assert "dark" not in {row["kind"] for row in rows(tmp_path / "out")}, "a sentence says it"
    with pytest.raises(UserError, match="--fail-on label: nobody looks for them; allowed: with --labels"):
        main(keys(tmp_path / "images", tmp_path / "out", "--fail-on", "label"))


def test_a_class_that_is_too_small_to_judge_is_found_nevertheless(tmp_path: Path) -> None:
    for number in range(13):
        place = tmp_path / "images" / "train" / ("c" if number == 12 else "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(photograph(number, 40))).save(place / f"{number}.png")
    main(keys(tmp_path / "images", tmp_path / "out", "--labels", "model.width=2", "epochs=1"))
    assert "small_class" in {row["kind"] for row in rows(tmp_path / "out")}
    assert "labels were not judged" in (tmp_path / "out" / "index.html").read_text()


def test_an_image_that_is_turned_has_the_size_that_people_see(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    for name in ("a.tiff", "a.jpg"):
        Image.new("RGB", (60, 20)).save(tmp_path / name, exif=exif)
        measured = measured_file((tmp_path / name).read_bytes())
        assert (measured.measures.width, measured.measures.height) == (20, 60)

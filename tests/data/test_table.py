"""Images that a CSV file lists are those of folders with the same files; each wrong line is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar.data import folder, table
from cifar.data.images import DataError, Images
from cifar.data.request import Request
from cifar.options.data import ImageFolder
from cifar.options.sources import Table

LINES = "".join(f"{number}.png,{('dog', 'cat')[number % 2]}\n" for number in range(6))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small images 0.png to 5.png, a copy of the first, and a file that is no image."""
    place = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(place / f"{number}.png")
    (place / "broken.png").write_bytes(b"no image")
    return place


def read(file: Path, part: str = "train") -> Images:
    return table.table(Table(root=str(file)), Request(part, file.parent / "cache"))


def written(place: Path, content: str | bytes) -> Path:
    file = place / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_a_table_gives_what_a_folder_gives(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(parts=("train", "test"))
    files = sorted(root.rglob("*.png"))
    lines = [f"{file.relative_to(tmp_path)},{file.parent.name},{file.parent.parent.name}\n" for file in files]
    file = written(tmp_path, "path,label,split\n" + "".join(lines))
    for part in ("train", "test"):
        expected = folder.image_folder(ImageFolder(root=str(root)), Request(part, tmp_path / "cache"))
        assert read(file, part).fingerprint == expected.fingerprint
    assert not table.has_val(Table(root=str(file)))


@pytest.mark.parametrize("head", [b"path,label\n", b"\xef\xbb\xbfnote,label,path\r\n"], ids=["plain", "BOM, CRLF"])
def test_headers_and_line_ends_of_spreadsheets(head: bytes, pictures: Path) -> None:
    lines = LINES if head.startswith(b"path") else "".join(f"x,{n % 2},{n}.png\r\n" for n in range(6))
    images = read(written(pictures, head + lines.encode()))
    assert images.labels.tolist() == ([1, 0] * 3 if head.startswith(b"path") else [0, 1] * 3)


def test_new_labels_are_seen_though_the_files_are_the_same(pictures: Path) -> None:
    first = read(written(pictures, "path,label\n" + LINES))
    second = read(written(pictures, "path,label\n" + LINES.replace("0.png,dog", "0.png,cat")))
    assert first.labels.tolist() != second.labels.tolist()
    assert first.fingerprint != second.fingerprint and first.files != second.files
    assert isinstance(first.images, torch.Tensor) and isinstance(second.images, torch.Tensor)
    assert torch.equal(first.images, second.images)


def test_other_columns_are_kept(pictures: Path) -> None:
    rows = table.rows_of_part(written(pictures, "patient,path,label\np7,0.png,cat\np8,1.png,dog\n"), "train")
    assert [row.others["patient"] for row in rows] == ["p7", "p8"]


def numbered(groups: torch.Tensor) -> list[int]:
    return [sorted(set(groups.tolist()), key=groups.tolist().index).index(group) for group in groups.tolist()]


@pytest.mark.parametrize("groups, expected", [("patient", [0, 1, 0, 1, 2]), (r"regex:\d", [0, 1, 2, 3, 4])])
def test_groups_are_those_of_a_column_or_of_names(groups: str, expected: list[int], pictures: Path) -> None:
    patients = zip(range(6), ("p", "q", "p", "q", "r", "r"), strict=True)
    lines = [f"{n}.png,{n % 2},{patient},{'val' if n == 5 else 'train'}\n" for n, patient in patients]
    file = written(pictures, "path,label,patient,split\n" + "".join(lines))
    option = Table(root=str(file), groups=groups)
    images = table.table(option, Request("train", file.parent / "cache"))
    assert images.groups is not None and numbered(images.groups) == expected
    (other,) = table.table(option, Request("val", file.parent / "cache")).groups.tolist()
    assert (other in images.groups.tolist()) == (groups == "patient"), "of patient r, who is in the training part too"


def test_a_column_that_is_no_group_is_named(pictures: Path) -> None:
    file = written(pictures, "path,label,patient\n0.png,cat,p\n1.png,dog,\n2.png,cat,q\n3.png,dog,\n")
    for groups, message in (
        ("person", r"data\.groups=person: no such column in .*labels\.csv; allowed: patient"),
        ("patient", r"has 2 train rows without a value there \(line 3, 5\); give each one"),
    ):
        with pytest.raises(DataError, match=message):
            table.table(Table(root=str(file), groups=groups), Request("train", file.parent / "cache"))


def test_numbers_are_sorted_as_numbers(pictures: Path) -> None:
    numbers = LINES.replace("dog", "10").replace("cat", "9")
    assert read(written(pictures, "path,label\n" + numbers)).classes == ("9", "10")


@pytest.mark.parametrize(
    "content, message",
    [
        (LINES, r", line 1: no column path and no column label \(0.png, dog\).*path,label"),
        ("path;label\n" + LINES.replace(",", ";"), ", line 1: no column path.*separated by commas"),
        ("path,label,path\n", ", line 1: column path is there twice"),
        ("path,label\n", ": no rows with split train"),
        ("path,label\n" + LINES + "nope.png,cat\n", r": 1 of 7 images are not there \(line 8: .*nope.png\).*relative"),
        ("path,label\n" + LINES + "0.png,cat\n", ", line 8: .*0.png is in line 2 already .*as dog of train and as cat"),
        ("path,label\n" + LINES + "./0.png,dog\n", ", line 8: .*0.png is in line 2 already"),
        ("path,label\n" + LINES + "broken.png,cat\n", "broken.png: not an image that can be decoded"),
        ("path,label\n,cat\n", ", line 2: path is empty"),
        ("path,label\n0.png, \n", ", line 2: label is empty"),
        ("path,label\n0.png\n", ", line 2: not as many fields as there are columns"),
        ("path,label\na,b.png,cat\n", ", line 2: not as many fields as there are columns.*quotation marks"),
        ("path,label\n0.png,cat\n1.png,cat\n", r": one class \(cat\); allowed: two or more"),
        ("path,label,split\n0.png,cat,training\n", ", line 2: split is 'training'; allowed: train, val, test"),
        (b"path,label\n\xff.png,cat\n", r": cannot be read \('utf-8'"),
    ],
)
def test_what_is_wrong_is_one_error(content: str | bytes, message: str, pictures: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(written(pictures, content))


def test_a_missing_file_and_a_missing_part_are_named(pictures: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.csv: no such file; data.root must be a CSV file"):
        read(pictures / "nowhere.csv")
    with pytest.raises(DataError, match=r"no rows with split test; .*or set test=false"):
        read(written(pictures, "path,label\n" + LINES), "test")


def test_a_name_may_begin_with_a_tilde(pictures: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(pictures, tmp_path / "copied")
    (copied / "0.png").rename(copied / "~0.png")
    assert len(read(written(copied, "path,label\n" + LINES.replace("0.png", "~0.png")))) == 6

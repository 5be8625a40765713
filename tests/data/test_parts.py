"""A folder is read as it is: its parts by any of their names, or none, and what is not clear is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cifar.data import folder
from cifar.data.images import DataError, Images
from cifar.data.request import Request
from cifar.options.data import ImageFolder

MakeFolder = Callable[..., Path]


def read(root: Path, part: str = "train") -> Images:
    return folder.image_folder(ImageFolder(root=str(root)), Request(part, root.parent / "cache"))


def add(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_the_part_for_validation_has_any_of_its_names(name: str, make_folder: MakeFolder) -> None:
    root = make_folder(parts=("train", name))
    assert folder.has_val(ImageFolder(root=str(root))) and read(root, "val").names[0] == f"{name}/cat/0.png"


def test_of_two_names_for_one_part_the_first_is_used(make_folder: MakeFolder, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(parts=("train", "valid", "val"))
    assert read(root, "val").names[0] == "val/cat/0.png"
    assert "val and valid are folders for one part: val is used" in caplog.text


def test_without_train_the_folders_are_classes(make_folder: MakeFolder) -> None:
    option = ImageFolder(root=str(make_folder(parts=("",))))
    images = read(Path(str(option.root)))
    assert (len(images), images.classes, images.names[0]) == (8, ("cat", "dog"), "cat/0.png")
    assert not folder.has_parts(option) and not folder.has_val(option) and not option.lacks_test()


@pytest.mark.parametrize("name", ["Train", "test", "VAL"])
def test_parts_without_train_are_no_classes(name: str, make_folder: MakeFolder) -> None:
    root = make_folder(parts=("",))
    add(root, f"{name}/cat/1.png")
    with pytest.raises(DataError, match=f"there is no folder train, and {name} beside it, which are no classes"):
        read(root)


@pytest.mark.parametrize("names", [("Testing", "Training"), ("train", "Val"), ("train", "evaluation")])
def test_folders_of_classes_under_the_names_of_others_for_parts_are_refused(
    names: tuple[str, str], make_folder: MakeFolder
) -> None:
    root = make_folder(parts=names)
    with pytest.raises(DataError, match=f"{names[1]} beside (it, which are no classes|train, as if it were a part)"):
        read(root)


def test_a_class_may_be_called_as_others_call_a_part(make_folder: MakeFolder) -> None:
    root = make_folder(parts=("",))
    (root / "cat").rename(root / "training")
    assert read(root).classes == ("dog", "training")


def test_train_as_a_class_among_others_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "vehicles"
    add(root, "train/1.png", "bus/1.png", "car/1.png")
    with pytest.raises(DataError, match="there are images in bus, car beside it; where train is a class"):
        read(root)


def test_train_with_classes_is_a_part_whatever_is_beside_it(
    make_folder: MakeFolder, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(parts=("train",))
    add(root, "raw/1.png", "masks/1.png")
    assert len(read(root)) == 8
    assert folder.common_size(ImageFolder(root=str(root)), Request("train", root.parent / "cache")) == 32
    assert caplog.text.count("masks, raw beside train hold images, and are left out") == 1


def test_images_beside_the_parts_are_left_out_with_a_warning(
    make_folder: MakeFolder, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder(parts=("train", "test"))
    add(root, "new/1.png")
    assert len(read(root)) == 8
    assert "new beside train hold images, and are left out" in caplog.text

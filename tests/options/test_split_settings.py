"""Settings of folds, groups and what regularises: what is allowed, and what is refused before any image is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
import yaml
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from cifar.content import content_differences
from cifar.data import torchvision_sets
from cifar.data.images import DataError
from cifar.layout import CONF
from cifar.options.check import check
from cifar.options.data import Data, ImageFolder
from cifar.options.option import ConfigError
from cifar.options.shared import read_overrides
from cifar.options.sources import WITHOUT_TEST, Arrays, Table, Torchvision
from cifar.sweep.space import parse

FOLDER = ("data=image_folder", "data.root=DIR")


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("data.fold=1", r"^data\.fold=1: there are no folds.*allowed: data\.folds=K with data\.fold from 0 to K-1"),
        ("data.folds=5", r"^data\.fold=null: not one of data\.folds=5; allowed: 0 to 4"),
        ("data.folds=5 data.fold=5", r"^data\.fold=5: not one of data\.folds=5; allowed: 0 to 4"),
        ("data.folds=1 data.fold=0", r"^data\.folds=1: not allowed; allowed: a whole number in \[2, inf\) or null"),
        ("data.folds=5 data.fold=-1", r"^data\.fold=-1: not allowed"),
        (
            "data.folds=5 data.fold=0 data.val_from=test_part",
            r"data\.val_from=test_part; allowed: training_part",
        ),
        ("data.groups=patient", r"^data\.groups=patient: not with data\.source=cifar10; allowed: null"),
        ("data.groups=regex:p", r"^data\.groups=regex:p: not with data\.source=cifar10; allowed: null"),
        ("data=image_folder data.root=D data.groups=p", r"data\.source=image_folder; allowed: regex:PATTERN"),
        ("data=image_folder data.root=D data.groups='regex:(p'", r"^data\.groups=regex:\(p: no regular expression"),
    ],
)
def test_what_names_no_fold_or_group_is_refused(
    overrides: str, message: str, compose: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(compose(*overrides.split()))


def test_test_images_choose_no_epoch_and_are_evaluated_too(compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match=r"^test=true data\.val_from=test_part: .*allowed: test=false, or another"):
        check(compose("test=true", "data.val_from=test_part"))
    assert check(compose("data.val_from=test_part")).data.val_from == "test_part"
    assert check(compose("test=true")).test


@pytest.mark.parametrize("has_test", [False, True])
def test_that_there_is_no_test_part_is_found_without_an_image(has_test: bool, tmp_path: Path) -> None:
    for part in ("train", "test")[: 1 + has_test]:
        (tmp_path / part / "cat").mkdir(parents=True)
    lines = ["path,label,split", "a.png,cat,train", "b.png,cat, test"]
    (tmp_path / "a.csv").write_text("\n".join(lines[: 2 + has_test]))
    (tmp_path / "plain.csv").write_text("path,label\na.png,cat\n")
    parts = {"train_images": np.zeros(1), "test_images": np.zeros(1)}
    np.savez(tmp_path / "a.npz", **dict(list(parts.items())[: 1 + has_test]))
    options = [ImageFolder(root=str(tmp_path)), Table(root=f"{tmp_path}/a.csv"), Arrays(root=f"{tmp_path}/a.npz")]
    assert [option.lacks_test() for option in options] == [not has_test] * 3
    assert Table(root=f"{tmp_path}/plain.csv").lacks_test()


@pytest.mark.parametrize("kind", [ImageFolder, Table, Arrays])
def test_data_that_cannot_be_listed_are_left_to_the_run(kind: type[Data], tmp_path: Path) -> None:
    assert not kind(root=str(tmp_path / "nowhere")).lacks_test()


def test_the_data_sets_of_torchvision_without_a_test_part_are_known() -> None:
    lacking = {name for name in torchvision.datasets.__all__ if "test" not in parts_of(name)}
    assert lacking - {"VOCSegmentation", "VOCDetection"} == WITHOUT_TEST, "those have no labels"
    assert Torchvision(dataset="Imagenette").lacks_test() and not Torchvision(dataset="MNIST").lacks_test()


def parts_of(name: str) -> set[str]:
    """The parts of a data set; those of one that cannot be trained on do not matter."""
    try:
        return set(torchvision_sets.find(Torchvision(dataset=name, kwargs={})).values)
    except DataError:
        return {"test"}


def test_folds_take_the_place_of_val_size(compose: Callable[..., DictConfig]) -> None:
    assert check(compose("data.folds=5", "data.fold=4", "data.limit=100", "data.val_size=5000")).data.fold == 4
    assert check(compose(*FOLDER, r"data.groups=regex:patient\d+")).data.groups == r"regex:patient\d+"
    quoted = check(compose(*FOLDER, r"data.groups='regex:(p\d+)_$'")).data
    assert quoted.groups == r"regex:(p\d+)_$" and "groups" in dict(quoted.source_key())


def test_groups_are_taken_from_the_file_of_a_run(tmp_path: Path) -> None:
    lines = [r"data.groups='regex:a\d/(b)'", "data.folds=3", "data.fold=1", "data.groups=${oc.env:HOME}"]
    taken = read_overrides(tmp_path / "overrides.yaml", lines, of_run=True)
    assert [override.input_line for override in taken] == lines[:3]


def test_another_fold_is_another_content() -> None:
    common = {"source": "digits", "fingerprint": "f"}

    def content(fold: int | None) -> dict[str, object]:
        split = {"val_seed": 0} if fold is None else {"val_seed": 0, "folds": 5, "fold": fold, "groups": None}
        parts = {part: {"images": 8, "fingerprint": f"{part} {fold}"} for part in ("train", "val")}
        return {"data": common | {"split": split} | parts}

    (change,) = content_differences(content(1), content(2))
    assert change == "the images are the same, but split differently: data.fold was 1, now 2"
    assert "data.folds was None, now 5, data.fold was None, now 1" in content_differences(content(None), content(1))[0]


@pytest.mark.parametrize("name", ["regularisation", "recipe"])
def test_the_spaces_are_within_what_is_allowed(name: str, compose: Callable[..., DictConfig]) -> None:
    file = CONF / "search" / f"{name}.yaml"
    entries = yaml.safe_load(file.read_text("utf-8"))
    space = parse([f"{key}={value}" for key, value in entries.items()])
    assert set(space.distributions) == set(entries) and not space.fixed
    assert all("#" in line for line in file.read_text("utf-8").splitlines() if line)
    for end in (0, -1):
        ends = [f"{key}={_values(each)[end]}" for key, each in space.distributions.items()]
        check(compose(f"search={name}", *ends))


def _values(distribution: BaseDistribution) -> list[object]:
    """The lowest and the highest value, or all choices."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution)
    return [distribution.low, distribution.high]

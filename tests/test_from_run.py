"""from_run: a run begins with the weights, the preprocessing and the split of another, on more images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backbones import TRANSFER
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from analysis import pages
from analysis.frames import read
from cifar.compose import recorded_splits
from cifar.data.images import DataError
from cifar.data.known import Known
from cifar.experiment import load_classifier, run
from cifar.initial import Initial, tensors_by_class
from cifar.models.build import build_model
from cifar.models.weights import TransferError
from cifar.options.check import check
from cifar.options.command_line import expand
from cifar.options.config import Config
from cifar.options.from_run import check_from_run
from cifar.options.option import ConfigError
from cifar.overrides import parse
from cifar.reporting import NO_REPORTER
from cifar.resources import Resources
from cifar.results import read_result
from cifar.search import check_run

Compose = Callable[..., Any]
Train = Callable[..., Path]
TINY = ("data=image_folder", "data.val_size=0.25", "epochs=1", "device=cpu", "threads=1", "augment=none")
NETWORK = ("model.depths=[1]", "model.width=2")


def add(root: Path, label: str, numbers: range) -> None:
    """Images of noise around a grey level that their class has."""
    (root / "train" / label).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        random = np.random.default_rng([ord(label[0]), number])
        pixels = random.integers(0, 100, (32, 32, 3)) + ord(label[0])
        Image.fromarray(pixels.astype(np.uint8)).save(root / "train" / label / f"{number}.png")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Images of two classes, and more images: those renamed without two, more, and a class before the others."""
    old, new = tmp_path / "old", tmp_path / "new"
    for label in ("bee", "cat"):
        add(old, label, range(12))
        add(new, label, range(1, 20))
    for path in sorted(new.rglob("*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    add(new, "ant", range(8))
    return old, new


@pytest.fixture
def train(compose: Compose, tmp_path: Path) -> Train:
    """train(name, root, *overrides): the directory of a tiny run."""

    def trained(name: str, root: Path, *overrides: str) -> Path:
        network = () if any(line.startswith("transfer=") for line in overrides) else NETWORK
        lines = [*TINY, *network, f"data.root={root}", f"cache.dir={tmp_path / 'cache'}", *overrides]
        cfg = compose(*lines)
        config = check(cfg)
        check_from_run(config)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        run(config, str(folder), NO_REPORTER, resources=Resources(), settings={"config.yaml": OmegaConf.to_yaml(cfg)})
        return folder

    return trained


def config_of(compose: Compose, root: Path, *overrides: str) -> Config:
    return check(compose(*TINY, *NETWORK, f"data.root={root}", *overrides))


def test_a_run_begins_with_another_and_resumes_without_it(
    train: Train, roots: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = train("first", roots[0])
    second = train("second", roots[1], f"from_run={first}", "optimizer.lr=0.001")
    facts = read_result(second)["from_run"]
    assert facts["images"] == {"kept": 22, "added": 24, "added_to_val": 6, "removed": 2, "left_out": 0, "relabelled": 0}
    assert facts["classes"] == {"added": ["ant"], "removed": []}
    before, after = Known.read(first), Known.read(second)
    assert before is not None and after is not None
    moved = [digest for digest, image in before.images.items() if after.images.get(digest, image).part != image.part]
    assert not moved

    assert (second / "initial" / "best.pt").samefile(first / "best.pt")  # not a copy for each trial of a search
    first.rename(tmp_path / "elsewhere")
    train("second", roots[1], f"from_run={first}", "optimizer.lr=0.001", "epochs=2", f"resume={second}")
    result = read_result(second)
    assert result["from_run"] == facts and result["epochs_done"] == 2
    assert "neither model was trained on" in caplog.text and "new class ant" in caplog.text
    assert len(recorded_splits(second).val) == 12

    _check_comparison(second, tmp_path / "elsewhere")
    section = pages.report_of([read(second)]).sections[0]
    assert section.title == "Before and after" and "22 kept, 24 added, 2 removed" in section.text
    assert section.table["images"].tolist()[-1] == "new class ant, validation" and "estimate" in section.text


def _check_comparison(second: Path, first: Path) -> None:
    """What result.json says of both models is what they predict."""
    val = recorded_splits(second).val
    known = Known.read(first)
    assert known is not None
    names = np.array([val.classes[label] for label in val.labels.tolist()])
    kept = known.parts(val) == "val"
    rows = {row["images_of"]: row for row in read_result(second)["compared"]["rows"]}
    for key, place in (("before", first), ("after", second)):
        right = np.array(load_classifier(place / "best.pt").predict(val.images[:])) == names
        assert rows["kept validation"][key] == pytest.approx(right[kept].mean())
        assert rows["new validation"][key] == pytest.approx(right[~kept & (names != "ant")].mean())
    assert rows["validation"]["images"] == sum(names != "ant")


def test_new_images_alone_do_not_take_the_classes_away(train: Train, roots: tuple[Path, Path], tmp_path: Path) -> None:
    first = train("first", roots[0])
    add(tmp_path / "only", "bee", range(30, 42))
    add(tmp_path / "only", "dog", range(12))
    with pytest.raises(DataError, match=r"none of its images are in .*, and no images of its classes cat, which"):
        train("second", tmp_path / "only", f"from_run={first}")


@pytest.mark.parametrize("mode", ["none", "frozen", "finetune"])
def test_weights_go_by_the_name_of_their_class(
    mode: str, train: Train, roots: tuple[Path, Path], tmp_path: Path
) -> None:
    overrides = () if mode == "none" else (f"transfer={mode}", *TRANSFER)
    first = train("first", roots[0], *overrides, "ema.decay=0.9" if mode == "none" else "seed=1")
    shutil.rmtree(roots[1] / "train" / "bee")
    second = train("second", roots[1], *overrides, f"from_run={first}", "optimizer.lr=1e-9", "optimizer.weight_decay=0")
    before, after = (load_classifier(folder / "best.pt") for folder in (first, second))
    assert (before.classes, after.classes) == (("bee", "cat"), ("ant", "cat"))
    weights, new = before.model.state_dict(), after.model.state_dict()
    for name, values in weights.items():
        if "running" in name or "num_batches" in name:
            continue
        rows = (values[1:], new[name][1:]) if values.shape[:1] == (2,) and _is_head(name) else (values, new[name])
        assert torch.allclose(*rows, atol=1e-5), name
    assert read_result(second)["from_run"]["classes"] == {"added": ["ant"], "removed": ["bee"]}


def test_statistics_can_stay_those_of_the_first_run_whatever_it_did(train: Train, roots: tuple[Path, Path]) -> None:
    first = train("first", roots[0], "transfer=finetune", *TRANSFER)
    before = load_classifier(first / "best.pt").model.state_dict()
    for stay in ("true", "false"):
        changed = ("transfer=finetune", *TRANSFER, f"transfer.frozen_statistics={stay}")
        after = load_classifier(train(stay, roots[1], *changed, f"from_run={first}") / "best.pt").model.state_dict()
        same = [torch.equal(after[name], value) for name, value in before.items() if name.endswith("running_mean")]
        assert set(same) == {stay == "true"}


def _is_head(name: str) -> bool:
    return name.rpartition(".")[0] in ("", "fc", "head")


def test_rows_of_classes_are_found_in_any_network() -> None:
    def convolutional(classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, classes, 1), nn.Flatten(), nn.Linear(7, 3))

    assert tensors_by_class(convolutional(3), 3, convolutional) == ["1.weight", "1.bias"]
    with pytest.raises(ConfigError, match=r"0\.weight depends on the classes otherwise than by a row for each"):
        tensors_by_class(nn.Sequential(nn.Linear(3, 3)), 3, lambda classes: nn.Sequential(nn.Linear(classes, classes)))
    with pytest.raises(ConfigError, match="no layer depends on them"):
        tensors_by_class(nn.Linear(3, 3), 3, lambda classes: nn.Linear(3, 3))


@pytest.mark.usefixtures("trusted")
def test_a_network_of_the_user_keeps_its_rows() -> None:
    settings = {"_target_": "cifar.models.build.own_model", "factory": "my_net:Net", "kwargs": {}}
    old, new = (build_model(settings, count) for count in (2, 3))
    best = {"classes": ["bee", "cat"], "model": old.state_dict()}
    initial = Initial(Path(), best, b"", Known.of([]))
    initial.load(new, ("ant", "bee", "cat"), lambda: tensors_by_class(new, 3, lambda n: build_model(settings, n)))
    for name, values in new.state_dict().items():
        expected = best["model"][name]  # type: ignore[index]
        assert torch.equal(values[1:] if values.shape != expected.shape else values, expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.width=3"], r"model\.width=3: was 2; a run that begins with another .* keeps its network"),
        (["data.image_size=16"], r"data\.image_size=16: was auto"),
        (["data.normalize=false"], r"data\.normalize=False: was True"),
        (["data=digits"], r"not with data\.source=digits, whose images are not known by content"),
    ],
)
def test_a_change_of_what_the_weights_are_of_is_refused(
    overrides: list[str], message: str, train: Train, roots: tuple[Path, Path], compose: Compose
) -> None:
    first = train("first", roots[0])
    data = "data=digits" in overrides
    lines = [*(() if data else TINY[:2]), *NETWORK, f"from_run={first}", *overrides]
    with pytest.raises(ConfigError, match=message):
        check_run(compose(*lines, *([] if data else [f"data.root={roots[1]}"])))
    (first / "best.pt").unlink()
    with pytest.raises(ConfigError, match=r"from_run=.*: no best\.pt in it"):
        check_from_run(config_of(compose, roots[1], f"from_run={first}"))


def test_other_weights_of_a_frozen_backbone_are_refused(train: Train, roots: tuple[Path, Path]) -> None:
    overrides = ("transfer=frozen", *TRANSFER)
    first = train("first", roots[0], *overrides)
    best = torch.load(first / "best.pt")
    best["transfer"]["weights_sha256"] = "0" * 64
    torch.save(best, first / "best.pt")
    with pytest.raises(TransferError, match=r"transfer\.weights=random: holds other weights than those that the head"):
        train("second", roots[1], *overrides, f"from_run={first}")


def test_the_split_of_an_earlier_version_is_read_from_its_images(train: Train, roots: tuple[Path, Path]) -> None:
    first = train("first", roots[0], "data.split=random")
    expected = Known.read(first)
    (first / "split.csv").unlink()
    second = train("second", roots[1], f"from_run={first}")
    known = Known.read(second / "initial")
    assert known == expected and read_result(second)["from_run"]["images"]["kept"] == 22
    add(roots[0], "cat", range(90, 91))
    with pytest.raises(DataError, match=r"no split\.csv, .* holds other images now.*; allowed: put these back"):
        train("third", roots[1], f"from_run={first}")


def test_the_settings_of_the_run_are_taken_and_those_that_are_given_win(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    lines = ["data=image_folder", "data.root=/old", "seed=3", "epochs=7", "device=cpu", "from_run=before", "resume=x"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text(str(lines))
    taken = expand(parse([f"from_run={tmp_path}", "data.root=/new", "epochs=2"]), None, None, run=str(tmp_path))
    assert [str(override.input_line) for override in taken] == [
        *("data=image_folder", "seed=3", f"from_run={tmp_path}", "data.root=/new", "epochs=2"),
    ]
    study = tmp_path / "study"
    study.mkdir()
    (study / "best.yaml").write_text("folder: study/4\n")
    with pytest.raises(ConfigError, match=r"not a run directory.*; its best trial: from_run=.*study/4"):
        expand([], None, None, run=str(study))


def test_a_trial_of_a_search_is_identified_by_the_weights_that_it_begins_with() -> None:
    from cifar.content import content_differences, content_of

    before, now = (content_of({"from_run": {"path": "run", "sha256": digit * 64, "images": {}}}) for digit in "01")
    assert content_differences(before, before) == []
    assert content_differences(before, now) == [
        "the weights that it begins with are others: best.pt of from_run=run (SHA-256 000000000000... then,"
        " 111111111111... now)"
    ]

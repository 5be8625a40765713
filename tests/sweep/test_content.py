"""A study, a run and a confirmation know the images and the weights that they began with by their content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import optuna
import pytest
import toy_app
from processes import succeed
from sweeps import Toy, ask, fingerprint, make_study, outcomes

from cifar.errors import UserError
from cifar.results import read_result
from cifar.search import APP
from cifar.sweep.content import ContentCheck, OtherContent, known_contents

TINY = ("model.depths=[1]", "model.width=2", "epochs=1", "device=cpu", "threads=1", "data.val_size=0.25")
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", "hydra.sweeper.heartbeat=0.2", *TINY)
CONFIRM = ("-m", "hydra/sweeper=confirm", "hydra.sweeper.top=1", "hydra.sweeper.seeds=1", *TINY)
RunPy = Callable[..., "CompletedProcess[str]"]
Folder = Callable[..., Path]


def refusal(done: CompletedProcess[str]) -> str:
    """The one line of a refused start; progress and warnings of PyTorch may come before it."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr and done.stderr.strip().endswith(line)
    return line


@pytest.fixture
def start(run_py: RunPy, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    """start(root, *overrides): searches the images below `root`, in the study `study`."""

    def started(root: Path, *overrides: str, total: int = 2) -> CompletedProcess[str]:
        count = f"hydra.sweeper.n_trials={total}"
        data = ("data=image_folder", f"data.root={root}")
        return run_py(*SEARCH, *data, "hydra.sweeper.study_name=study", count, *overrides, cwd=tmp_path)

    return started


def add_images(root: Path, label: str = "dog", count: int = 4) -> None:
    for number in range(count):
        shutil.copy(root / "train" / "cat" / f"{number}.png", root / "train" / label / f"new{number}.png")


def test_a_search_goes_wherever_its_images_are_and_takes_no_others(
    start: RunPy, make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder(each=8)
    succeed(start(root))
    moved = root.rename(tmp_path / "moved")
    other = make_folder("other", classes=("cat", "dog", "owl"), each=8)
    line = refusal(start(other, "hydra.sweeper.n_jobs=2", total=5))
    assert line.startswith("error: study study was begun with other data: the images are others: ")
    assert "12 in 2 classes to train on then, 18 in 3 classes now" in line
    assert "4 in 2 classes to validate on then, 6 in 3 classes now" in line and "hydra.sweeper.study_name=" in line
    assert outcomes(tmp_path / "sweeps").count("COMPLETE") == 2 and "failed" not in outcomes(tmp_path / "sweeps")
    succeed(start(moved, total=5))
    assert outcomes(tmp_path / "sweeps").count("COMPLETE") == 5 and "WAITING" not in outcomes(tmp_path / "sweeps")


def some_images(fingerprint: str, count: int = 16, classes: int = 2) -> dict[str, Any]:
    """What a run records of its images."""
    parts = {"train": {"images": count * 3 // 4}, "val": {"images": count // 4}}
    whole = {"source": "image_folder", "classes": classes, "images": count, "fingerprint": fingerprint}
    return {**whole, "files": fingerprint, "split": {}, **parts}


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the runs of the toy record of their images, by data.root."""
    monkeypatch.setattr(toy_app, "IMAGES", {})
    return toy_app.IMAGES


def toy(root: Path, *overrides: str, study: str | None = "study", total: int = 2) -> list[str]:
    """The overrides of a search of the toy below `root`; without `study` it has the default name."""
    name = [f"hydra.sweeper.study_name={study}"] if study else []
    data = ["data=image_folder", f"data.root={root}", "hydra/sweeper/pruner=none", "hydra.sweeper.heartbeat=0.2"]
    return ["hydra/sweeper=optuna", *data, "epochs=1", f"hydra.sweeper.n_trials={total}", *name, *overrides]


def test_an_image_that_changed_in_place_is_another_one(
    sweep: Toy, images: dict[str, dict[str, Any]], make_folder: Folder
) -> None:
    root = make_folder()
    images[str(root)] = some_images("a")
    sweep(*toy(root))
    images[str(root)] = some_images("b")
    with pytest.raises(OtherContent, match="12 in 2 classes to train on then and now, but not the same ones"):
        sweep(*toy(root, total=3))


def test_a_study_of_an_earlier_version_takes_the_content_from_its_runs(
    sweep: Toy, images: dict[str, dict[str, Any]], make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder()
    images[str(root)] = some_images("a")
    sweep(*toy(root))
    forget_contents(tmp_path / "sweeps" / "study")
    images[str(root)] = some_images("b", 20)
    with pytest.raises(OtherContent, match="12 in 2 classes to train on then, 15 in 2 classes now"):
        sweep(*toy(root, total=3))
    for trial in "01":
        (tmp_path / "sweeps" / "study" / trial / "result.json").unlink()
    assert "what its trials were trained on is not known" in sweep(*toy(root, total=3))


def forget_contents(study: Path) -> None:
    """As earlier versions left a study and its runs."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{study}/study.db")
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM trial_user_attributes WHERE key = 'content'")
    for path in study.glob("*/result.json"):
        result = json.loads(path.read_text())
        for key in ("images", "fingerprint", "files", "split"):
            del result["data"][key]
        path.write_text(json.dumps(result))


def test_a_confirmation_runs_on_the_images_of_its_search(
    start: RunPy, run_py: RunPy, make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder(parts=("train", "test"), each=8)
    succeed(start(root))
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    add_images(root)
    confirm = (*CONFIRM, "hydra.sweeper.study=sweeps/study")
    line = refusal(run_py(*confirm, cwd=tmp_path))
    assert "the search that is confirmed was begun with other data" in line and "15 in 2 classes now" in line
    for path in set(root.rglob("*.png")) - set(before):
        path.unlink()
    assert "evaluated once" in succeed(run_py(*confirm, cwd=tmp_path))


def test_what_is_searched_is_no_fixed_content(
    sweep: Toy, images: dict[str, dict[str, Any]], make_folder: Folder, tmp_path: Path
) -> None:
    root, other = make_folder(), make_folder("other")
    images |= {str(root): some_images("a"), str(other): some_images("c", 24, 3)}
    fixed = ("hydra/sweeper/sampler=grid", "optimizer.lr=0.1", "optimizer.momentum=0.9", "optimizer.weight_decay=0")
    sweep(*toy(root, *fixed, f"data.root=choice({root},{other})"))
    split = (*fixed, "data.val_seed=choice(0,1,2)")
    sweep(*toy(root, *split, study="split"))
    images[str(root)] = some_images("b", 20)
    message = "the images are others: 16 of image_folder in 2 classes then, 20 of image_folder in 2 classes now"
    with pytest.raises(OtherContent, match=message):
        sweep(*toy(root, *split, study="split", total=3))
    assert outcomes(tmp_path / "sweeps") == ["COMPLETE"] * 2
    assert outcomes(tmp_path / "sweeps", "split").count("COMPLETE") == 2


def content_in(fingerprint: str) -> dict[str, Any]:
    return {"weights": {"name": "w", "sha256": fingerprint * 64}}


@pytest.mark.parametrize("outcome", [None, "lost"])
def test_trials_with_a_result_decide_what_a_study_is_about(tmp_path: Path, outcome: str | None) -> None:
    """One on other data that runs, or whose worker died, has none of the study's trials refused."""
    study = make_study(tmp_path)
    check = ContentCheck(study, APP, [])
    first, other = ask(study), ask(study)
    first.set_user_attr("content", content_in("a"))
    other.set_user_attr("content", content_in("b"))
    contents = [known.content for known in known_contents(study.trials(), APP, tmp_path)]
    assert contents == [content_in("a"), content_in("b")], "before there are results, all decide"
    study.complete(first, 0.5)
    if outcome:
        study.fail(other, outcome, "its worker died")
    assert [known.content for known in known_contents(study.trials(), APP, tmp_path)] == [content_in("a")]
    third = ask(study)
    check.identify(third, content_in("a"))
    with pytest.raises(OtherContent, match="the weights are others"):
        check.identify(third, content_in("b"))
    assert study.frozen(third).user_attrs["content"] == {}


def test_weights_that_changed_in_place_are_others(run_py: RunPy, tmp_path: Path) -> None:
    import torch
    from torchvision.models import resnet18

    network = resnet18()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    transfer = ("transfer=frozen", "transfer.image_size=32", "transfer.backbone._target_=torchvision.models.resnet18")
    data = ("data=digits", "data.limit=60", f"transfer.weights={tmp_path}/weights.pth", *transfer, "epochs=1")
    device = ("device=cpu", "threads=1")
    succeed(run_py(*data, *device, "hydra.run.dir=run", cwd=tmp_path))
    search = ("-m", "hydra/sweeper=optuna", "hydra.sweep.dir=study", *data, *device)
    succeed(run_py(*search, "hydra.sweeper.n_trials=1", cwd=tmp_path))
    with torch.no_grad():
        network.conv1.weight += 1
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    for line in (
        refusal(run_py(*search, "hydra.sweeper.n_trials=2", cwd=tmp_path)),
        refusal(run_py("resume=run", "epochs=2", cwd=tmp_path)),
    ):
        assert "the weights are others" in line and "holds other values than then (SHA-256 " in line


def test_a_run_resumes_on_what_it_began_with(run_py: RunPy, make_folder: Folder, tmp_path: Path) -> None:
    root = make_folder(each=8)
    succeed(run_py("data=image_folder", f"data.root={root}", *TINY, "hydra.run.dir=run", cwd=tmp_path))
    names = ("result.json", "metrics.csv", "checkpoint.pt", "best.pt", "confusion.csv")
    kept = {path: path.read_bytes() for path in (tmp_path / "run" / name for name in names)}
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "cat" / "0.png")
    assert "12 in 2 classes to train on then and now, " in refusal(run_py("resume=run", "epochs=2", cwd=tmp_path))
    add_images(root)
    line = refusal(run_py("resume=run", "epochs=2", cwd=tmp_path))
    message = "error: resume=run: the images are others: 12 in 2 classes to train on then, 14 in 2 classes now"
    assert line.startswith(message)
    assert {path: path.read_bytes() for path in kept} == kept


def test_files_that_are_decoded_otherwise_are_said_to_be(
    run_py: RunPy, make_folder: Folder, tmp_path: Path, separate_cache: Path
) -> None:
    root = make_folder(each=8)
    succeed(run_py("data=image_folder", f"data.root={root}", *TINY, "hydra.run.dir=run", cwd=tmp_path))
    path = tmp_path / "run" / "result.json"
    result = read_result(tmp_path / "run")
    for part in (result["data"], result["data"]["train"], result["data"]["val"]):
        part["fingerprint"] = "of another version of Pillow"
    path.write_text(json.dumps(result))
    for image in root.rglob("*.png"):
        os.utime(image)  # decoded anew
    line = refusal(run_py("resume=run", "epochs=2", cwd=tmp_path))
    assert "the image files are the same, but decoded to other pixels" in line


@pytest.mark.parametrize("sweep_dir", [(), ("hydra.sweep.dir=study",)], ids=["default folder", "one folder"])
def test_folders_of_images_have_studies_of_their_names(
    sweep: Toy,
    images: dict[str, dict[str, Any]],
    make_folder: Folder,
    tmp_path: Path,
    sweep_dir: tuple[str, ...],
) -> None:
    first, second = make_folder("first"), make_folder("second")
    images |= {str(first): some_images("a"), str(second): some_images("b", 24, 3)}
    sweep(*toy(first, *sweep_dir, study=None, total=1))
    if sweep_dir:
        with pytest.raises(UserError, match="other data"):  # one folder holds one study
            sweep(*toy(second, *sweep_dir, study=None))
        return
    sweep(*toy(second, study=None))
    names = sorted(path.name for path in (tmp_path / "sweeps").iterdir())
    assert names == [f"image_folder-{name}-resnet14-sgd-plateau" for name in ("first", "second")]


def test_a_study_with_the_former_default_name_is_resumed(
    sweep: Toy, images: dict[str, dict[str, Any]], make_folder: Folder, tmp_path: Path
) -> None:
    first, second = make_folder("first"), make_folder("second")
    images |= {str(first): some_images("a"), str(second): some_images("b", 24, 3)}
    former = "image_folder-resnet14-sgd-plateau"
    sweep(*toy(first, study=former, total=1))
    before = fingerprint(tmp_path / "sweeps" / former / "0")
    assert "nothing is left" in sweep(*toy(first, study=None, total=1))
    sweep(*toy(second, study=None, total=1))
    names = sorted(path.name for path in (tmp_path / "sweeps").iterdir())
    assert names == [former, "image_folder-second-resnet14-sgd-plateau"]
    assert fingerprint(tmp_path / "sweeps" / former / "0") == before

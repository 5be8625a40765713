"""A study, a run and a confirmation know the images and the weights that they began with by their content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import optuna
import pytest
from sweeps import fingerprint, outcomes

from cifar.results import read_result

TINY = ("model.depths=[1]", "model.width=2", "epochs=1", "device=cpu", "threads=1", "data.val_size=0.25")
SEARCH = ("-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", "hydra.sweeper.heartbeat=0.2", *TINY)
CONFIRM = ("-m", "hydra/sweeper=confirm", "hydra.sweeper.top=1", "hydra.sweeper.seeds=1", *TINY)
RunPy = Callable[..., "CompletedProcess[str]"]
Folder = Callable[..., Path]


def succeed(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    succeed(start(moved, total=3))
    other = make_folder("other", classes=("cat", "dog", "owl"), each=8)
    line = refusal(start(other, "hydra.sweeper.n_jobs=2", total=5))
    assert line.startswith("error: study study was begun with other data: the images are others: ")
    assert "12 in 2 classes to train on then, 18 in 3 classes now" in line
    assert "4 in 2 classes to validate on then, 6 in 3 classes now" in line and "hydra.sweeper.study_name=" in line
    assert outcomes(tmp_path / "sweeps").count("COMPLETE") == 3 and "failed" not in outcomes(tmp_path / "sweeps")
    succeed(start(moved, total=5))
    assert outcomes(tmp_path / "sweeps").count("COMPLETE") == 5 and "WAITING" not in outcomes(tmp_path / "sweeps")


def test_an_image_that_changed_in_place_is_another_one(start: RunPy, make_folder: Folder, tmp_path: Path) -> None:
    root = make_folder(each=8)
    succeed(start(root))
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "cat" / "0.png")
    assert "12 in 2 classes to train on then and now, " in refusal(start(root, total=3))


def test_a_study_of_an_earlier_version_takes_the_content_from_its_runs(
    start: RunPy, make_folder: Folder, tmp_path: Path
) -> None:
    root = make_folder(each=8)
    succeed(start(root))
    forget_contents(tmp_path / "sweeps" / "study")
    add_images(root)
    assert "12 in 2 classes to train on then, 15 in 2 classes now" in refusal(start(root, total=3))
    for trial in "01":
        (tmp_path / "sweeps" / "study" / trial / "result.json").unlink()
    assert "what its trials were trained on is not known" in succeed(start(root, total=3))


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


def test_what_is_searched_is_no_fixed_content(start: RunPy, make_folder: Folder, tmp_path: Path) -> None:
    root, other = make_folder(each=8), make_folder("other", classes=("cat", "dog", "owl"), each=8)
    fixed = ("hydra/sweeper/sampler=grid", "optimizer.lr=0.1", "optimizer.momentum=0.9", "optimizer.weight_decay=0")
    succeed(start(root, *fixed, f"data.root=choice({root},{other})"))
    split = (*fixed, "hydra.sweeper.study_name=split", "data.val_seed=choice(0,1,2)")
    succeed(start(root, *split))
    add_images(root)
    line = refusal(start(root, *split, total=3))
    assert "the images are others: 16 of image_folder in 2 classes then, 20 of image_folder in 2 classes now" in line
    assert outcomes(tmp_path / "sweeps") == ["COMPLETE"] * 2
    assert outcomes(tmp_path / "sweeps", "split").count("COMPLETE") == 2


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


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.val_seed=1", "error: data.val_seed=1: was 0"),
        ("data.val_size=0.5", "error: data.val_size=0.5: was 0.25"),
        ("data.limit=12", "error: data.limit=12: was None"),
        ("data=digits", "data.source=digits: was image_folder"),
        ("epochs=2", "error: resume=run: the images are others: 12 in 2 classes to train on then, 15 in 2 classes now"),
    ],
)
def test_a_run_resumes_on_what_it_began_with(
    run_py: RunPy, make_folder: Folder, tmp_path: Path, override: str, message: str
) -> None:
    root = make_folder(each=8)
    succeed(run_py("data=image_folder", f"data.root={root}", *TINY, "hydra.run.dir=run", cwd=tmp_path))
    names = ("result.json", "metrics.csv", "checkpoint.pt", "best.pt", "confusion.csv")
    kept = {path: path.read_bytes() for path in (tmp_path / "run" / name for name in names)}
    if override == "epochs=2":
        add_images(root)
    line = refusal(run_py("resume=run", override, cwd=tmp_path))
    assert message in line and line.startswith("error: ")
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
    run_py: RunPy, make_folder: Folder, tmp_path: Path, sweep_dir: tuple[str, ...]
) -> None:
    first, second = make_folder("first", each=8), make_folder("second", each=8, classes=("a", "b", "c"))
    search = (*SEARCH, "data=image_folder", "hydra.sweeper.n_trials=1", *sweep_dir)
    succeed(run_py(*search, f"data.root={first}", cwd=tmp_path))
    other = run_py(*search, "hydra.sweeper.n_trials=2", f"data.root={second}", cwd=tmp_path)
    if sweep_dir:
        assert "other data" in refusal(other), "one folder holds one study"
        return
    succeed(other)
    names = sorted(path.name for path in (tmp_path / "sweeps").iterdir())
    assert names == [f"image_folder-{name}-resnet14-sgd-plateau" for name in ("first", "second")]


def test_a_study_with_the_former_default_name_is_resumed(run_py: RunPy, make_folder: Folder, tmp_path: Path) -> None:
    first, second = make_folder("first", each=8), make_folder("second", each=8, classes=("a", "b", "c"))
    former = "image_folder-resnet14-sgd-plateau"
    search = (*SEARCH, "data=image_folder")
    name = f"hydra.sweeper.study_name={former}"
    succeed(run_py(*search, f"data.root={first}", name, "hydra.sweeper.n_trials=1", cwd=tmp_path))
    before = fingerprint(tmp_path / "sweeps" / former / "0")
    assert "nothing is left" in succeed(run_py(*search, f"data.root={first}", "hydra.sweeper.n_trials=1", cwd=tmp_path))
    succeed(run_py(*search, f"data.root={second}", "hydra.sweeper.n_trials=1", cwd=tmp_path))
    names = sorted(path.name for path in (tmp_path / "sweeps").iterdir())
    assert names == [former, "image_folder-second-resnet14-sgd-plateau"]
    assert fingerprint(tmp_path / "sweeps" / former / "0") == before

"""A bundle: its files, its model card, and its predict.py in an interpreter without the program and PyTorch."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from backbones import TRANSFER
from bad_images import bad_files
from PIL import Image

from cifar import export
from cifar.errors import UserError
from cifar.exporting import bundle
from cifar.exporting.card import table
from cifar.exporting.public import is_private, settings_fingerprint, settings_text, without_folders
from cifar.inference.model import load_model
from cifar.options.check import check
from cifar.training import checkpoint

ISOLATED = """
import runpy, sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "cifar", "analysis", "hydra", "pandas"):
            raise ImportError(name)
sys.meta_path.insert(0, Refused())
sys.argv = sys.argv[1:]
sys.path[0:0] = [sys.argv[0].rpartition("/")[0]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def bundled(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export.main([str(trained), "--bundle", str(folder)])
    return folder


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text("utf-8")


def test_predict_needs_neither_the_program_nor_torch(bundled: Path, trained: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    good = tmp_path / "good"
    good.mkdir()
    paths = [good / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.fromarray(random.integers(0, 256, (30 + number, 40, 3), np.uint8)).save(path)
    bad = bad_files(tmp_path / "bad")
    command = [sys.executable, "-I", "-B", "-c", ISOLATED, str(bundled / "predict.py"), str(good), *map(str, bad)]
    done = subprocess.run([*command, "--top", "10"], capture_output=True, text=True, cwd="/", timeout=120)
    assert done.returncode == 1 and "pipe.png: not a regular file" in done.stderr
    unsure, unlike, *others = done.stderr.splitlines()
    assert len(others) == len(bad), "a line each"
    assert unsure.startswith("unsure: ") and "validation images" in unsure and unlike.startswith("unlike training: ")
    rows = {Path(line.split("\t")[0]): line.split("\t")[1:] for line in done.stdout.splitlines()}
    model = load_model(trained, "cpu")
    images = model.read(paths)
    assert [rows[path][0] for path in paths] == model.predict(images)
    for path, expected in zip(paths, model.probabilities(images), strict=True):
        cells = rows[path][:20]  # a last one may say that it is unsure
        shown = dict(zip(cells[::2], map(float, cells[1::2]), strict=True))
        assert np.allclose([shown[name] for name in model.classes], expected, atol=1e-5)


@pytest.mark.slow
def test_its_predictions_may_be_cut_off(bundled: Path, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    command = [sys.executable, "-B", str(bundled / "predict.py"), *[str(tmp_path / "a.png")] * 3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        lines = process.stderr.read().splitlines()
    assert len(lines) == 2 and lines[0].startswith("unsure: ") and lines[1].startswith("unlike training: ")
    assert process.returncode == -signal.SIGPIPE


def test_a_bundle_is_whole_and_is_a_model(bundled: Path, trained: Path) -> None:
    assert {path.name for path in bundled.iterdir()} == bundle.FILES
    assert len({path.stat().st_mode for path in bundled.iterdir()}) == 1, "whoever may read one may read all"
    assert (bundled / "classes.txt").read_text().split() == list("0123456789")
    assert yaml.safe_load((bundled / "config.yaml").read_text())["optimizer"]["lr"] == 0.05
    images = load_model(trained, "cpu").read([])
    assert load_model(bundled).probabilities(images).shape == (0, 10)
    for file in bundled.iterdir():
        assert str(trained).encode() not in file.read_bytes()


def test_the_card_of_a_run_says_what_is_not_known(bundled: Path) -> None:
    card = card_of(bundled)
    head = yaml.safe_load(card.split("---\n")[1])
    metrics = [(row["dataset"]["split"], row["metrics"][0]["value"]) for row in head["model-index"][0]["results"]]
    assert [split for split, _ in metrics] == ["validation", "test"] and head["license"] == "other"
    assert "nothing is known of a search" in card and "divided by a temperature of" in card
    assert f"Test accuracy of these weights {metrics[1][1]:.4f}" in card
    assert "optimizer.lr=0.05" in card and "cache.dir" not in card


def test_the_card_of_a_former_run_says_that_it_is_not_calibrated(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    best = checkpoint.load(run / "best.pt")
    checkpoint.save(run / "best.pt", {key: value for key, value in best.items() if key != "calibration"})
    result = json.loads((run / "result.json").read_text())
    del result["calibration"]
    result["test"]["also_in_train"] = 3
    result["without_leaks"] = {
        "test": {"duplicates": 3, "without": {"accuracy": 0.25}},
        "val": {"duplicates": 0, "without": {"accuracy": 0.5}},
    }
    (run / "result.json").write_text(json.dumps(result))
    (run / "classes.csv").unlink()
    export.main([str(run), "--bundle", str(tmp_path / "bundle")])
    card = card_of(tmp_path / "bundle")
    assert "not calibrated" in card and "temperature" not in card and "recorded no figures by class" in card
    assert f"3 of {result['test']['images']} test images are also training images" in card
    assert "est accuracy 0.2500 without the 3 test images" in card and "0 validation images" not in card
    assert load_model(tmp_path / "bundle").temperature is None
    (run / "classes.csv").write_text("class,images\ncat,many\n")
    with pytest.raises(UserError, match=r"classes.csv: cannot be read .*; restore it, or remove it"):
        export.main([str(run), "--bundle", str(tmp_path / "bundle")])


def test_the_fingerprint_of_settings_is_the_same_wherever_files_are(compose: Any, tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
        (place / "backbone.pth").write_bytes(b"")
    transfer = ("transfer=frozen", *TRANSFER[:3])
    files = [(f"transfer.weights={place}/backbone.pth", f"cache.dir={place}") for place in places]
    one, two = (check(compose("data=digits", *transfer, *lines)) for lines in files)
    assert one != two and settings_fingerprint(one) == settings_fingerprint(two)
    assert "backbone.pth" in settings_text(one) and str(tmp_path) not in settings_text(one)
    begun = replace(one, from_run=str(tmp_path), data=replace(one.data, fixes=str(tmp_path / "fixes.csv")))
    assert str(tmp_path) not in settings_text(begun) and "fixes.csv" in settings_text(begun)
    assert settings_fingerprint(one) != settings_fingerprint(
        check(compose("data=digits", *transfer, "transfer.weights=random"))
    )


def test_the_card_of_a_confirmed_study_is_filled_in(
    searched: Path, run_py: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    study = shutil.copytree(searched / "search", tmp_path / "search")
    confirm = ("-m", "hydra/sweeper=confirm", f"hydra.sweeper.study={study}", "hydra.sweeper.top=2")
    done = run_py(*confirm, "hydra.sweeper.seeds=2", "hydra.sweeper.test=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    export.main([str(study), "--bundle", str(tmp_path / "bundle")])
    card = card_of(tmp_path / "bundle")
    for text in (
        "6 trials of 6 planned",
        "Sampler TPESampler (seed 1)",
        "optimizer.lr | 0.001 to 0.3",
        "mean on fresh",
    ):
        assert text in card
    assert "confirmed on 2 fresh seeds" in card and "The test set was evaluated once" in card
    assert str(tmp_path) not in card


def test_only_a_bundle_is_replaced(bundled: Path, trained: Path, tmp_path: Path) -> None:
    for text, place in (
        ("holds notes.txt", tmp_path / "notes"),
        ("there is no folder", tmp_path / "absent" / "bundle"),
    ):
        if "notes" in text:
            shutil.copytree(bundled, place)
            (place / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match=text):
            export.main([str(trained), "--bundle", str(place)])
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "README.md").write_text("mine")
    with pytest.raises(UserError, match="is no bundle of this program"):
        bundle.check_folder(tmp_path / "foreign")
    bundle.check_folder(bundled)
    with pytest.raises(UserError, match="an exported model; allowed: a run"):
        export.main([str(bundled), "--format", "safetensors", "--out", str(tmp_path / "model.safetensors")])


def test_a_failure_keeps_the_former_bundle(trained: Path, bundled: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / ".hydra" / "config.yaml").unlink()
    before = card_of(bundled)
    with pytest.raises(UserError, match="a bundle describes the run too"):
        export.main([str(run), "--bundle", str(bundled)])
    assert card_of(bundled) == before and [path.name for path in bundled.parent.iterdir()] == ["bundle"]


def test_names_cannot_break_a_table() -> None:
    text = table([{"name": "a|b\n<c>"}], {"name": "class"})
    assert text.splitlines() == ["| class |", "| --- |", "| a\\|b &lt;c&gt; |"]


def test_no_override_and_no_argument_of_a_network_names_a_place() -> None:
    assert without_folders({"a": {"checkpoint_path": "/home/me/net.pth"}, "b": ["~/x.pt", "hub/name", 3]}) == {
        "a": {"checkpoint_path": "net.pth"},
        "b": ["x.pt", "hub/name", 3],
    }
    lines = ["model.kwargs={path:/home/me/a.pth}", "transfer.backbone.path='/home/me/b'", "from_run=outputs/1"]
    assert all(is_private(line.partition("=")[0], line) for line in lines)
    assert not is_private("model.name", "model.name=hub/name") and not is_private("optimizer.lr", "optimizer.lr=0.1")

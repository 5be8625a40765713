"""python -m cifar.predict: images named in any way, what is printed and written, bad files, evaluation."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from bad_images import ODD_NAMES, bad_files, encoded, odd_files, regular
from PIL import Image
from torch import nn

from cifar import predict
from cifar.errors import UserError
from cifar.experiment import load_splits, run
from cifar.inference.evaluation import ClassesError
from cifar.inference.model import Model, load_model
from cifar.inference.paths import NoImagesError, image_paths
from cifar.options.check import check
from cifar.predict import PredictError
from cifar.reporting import NO_REPORTER
from cifar.results import read_result
from cifar.tasks import InputError

Predict = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/{train,test}/CLASS/N.png of 12x12 pixels, bright or dark."""
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("test", 5)):
        for name, level in (("dark", 0), ("light one", 128)):
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = level + torch.randint(128, (12, 12, 3), generator=generator)
                Image.fromarray(pixels.to(torch.uint8).numpy()).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path, compose: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    settings = ["data=image_folder", f"data.root={photos}", "test=true", "epochs=3", "model.depths=[1,1]"]
    config = compose(
        *settings, "model.width=4", "device=cpu", "threads=1", "precision=fp32", "batch_size=8", "augment=none"
    )
    kept = f"augment: {{flip: false}}\ndata: {{root: {photos}}}"
    run(check(config), str(folder), NO_REPORTER, settings={"config.yaml": kept})
    return folder


@pytest.fixture
def predicted(trained: Path, capsys: pytest.CaptureFixture[str]) -> Predict:
    """predicted(*arguments): standard output and standard error."""

    def call(*arguments: str | Path) -> tuple[str, str]:
        capsys.readouterr()
        predict.main([str(trained), *map(str, arguments), "--device", "cpu"])
        done = capsys.readouterr()
        return done.out, done.err

    return call


def names(*arguments: str, stdin: bytes = b"") -> list[str]:
    return [str(path) for path in image_paths(arguments, io.TextIOWrapper(io.BytesIO(stdin))).paths]


def test_images_are_named_by_files_folders_patterns_and_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/b/1.png", "a/2.jpg", "a/notes.txt", "a/.hidden.png", "a/Thumbs.db", "3.png", "[4].png", "4.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    assert names("a") == ["a/2.jpg", "a/b/1.png"]
    assert names("3.png", "a/notes.txt", "missing.png") == ["3.png", "a/notes.txt", "missing.png"]
    assert names("[4].png") == ["[4].png"], "a file of that name comes before the pattern"
    assert names("[34].png") == ["3.png", "4.png"]
    assert names("a/*") == ["a/2.jpg", "a/b/1.png"], "files that are no images are left out, and loops"
    assert names("**/*.png") == ["3.png", "4.png", "[4].png", "a/b/1.png"]
    assert names(str(tmp_path / "a" / "**" / "*.png")) == [str(tmp_path / "a/b/1.png")]
    assert names("a/**") == ["a/2.jpg", "a/b/1.png"] and names("*/b/*.png") == ["a/b/1.png"]
    assert names("-", "3.png", stdin=b"a/b/1.png\r\n\na\nx*.png\n") == [
        *("a/b/1.png", "a/2.jpg", "a/b/1.png", "x*.png"),
        "3.png",
    ]
    skipped = image_paths(["a"], sys.stdin).walk.skipped
    assert skipped["hidden or system files and folders"] == 2 and skipped[".txt files"] == 1
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (["empty"], "empty: no images in this folder; allowed: image files, folders, patterns"),
        (["x*.png"], r"x\*\.png: no image matches this pattern"),
        (["-"], "the list on standard input is empty"),
        (["x.png", "y.png"], r"x\.png: no such file; y\.png: no such file; allowed"),
    ):
        with pytest.raises(NoImagesError, match=message):
            names(*arguments)


def test_predictions_are_those_of_the_model(predicted: Predict, photos: Path, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    predicted(photos / "test", "--csv", file, "--top", "9", "--batch-size", "3", "--json", tmp_path / "p.json")
    rows = pd.read_csv(file)
    marks = ["unsure", "unlike", "distance"]
    assert list(rows) == ["file", "class", "probability", "class_2", "probability_2", *marks] and len(rows) == 10
    assert rows[marks].isna().all(axis=None), "a run with too few validation images knows of none"
    model = load_model(trained, "cpu")
    paths = sorted((photos / "test").rglob("*.png"))
    probabilities = model.probabilities(model.read(paths))
    assert rows.file.tolist() == list(map(str, paths)) and rows["class"].tolist() == model.predict(model.read(paths))
    assert rows.probability.tolist() == pytest.approx(probabilities.max(1).values.tolist(), rel=1e-4)
    content = json.loads((tmp_path / "p.json").read_bytes())
    assert content["predictions"][3]["classes"] == [rows["class"][3], rows["class_2"][3]]
    assert content["unreadable"] == [] and content["model"] == str(trained / "best.pt")
    out, err = predicted(paths[0])
    assert out == f"{paths[0]}  {rows['class'][0]:<9}  {rows.probability[0]:.4f}\n"
    assert "2 classes · 12x12 pixels · calibrated: temperature" in err


def test_evaluation_of_the_test_part_is_that_of_the_run(
    predicted: Predict, photos: Path, trained: Path, tmp_path: Path
) -> None:
    out, err = predicted(photos / "test", "--evaluate", "--json", tmp_path / "e.json", "--csv", tmp_path / "e.csv")
    test = read_result(trained)["test"]
    content = json.loads((tmp_path / "e.json").read_bytes())
    for name in ("images", "accuracy", "balanced_accuracy", "macro_f1"):
        assert content[name] == test[name]
    matrix = pd.read_csv(tmp_path / "e.csv", index_col=0)
    assert matrix.to_numpy().tolist() == content["confusion"] and list(matrix) == ["dark", "light one"]
    interval = content["interval"]
    assert f"accuracy {test['accuracy']:.4f} of 10 images (95% interval {interval['low']:.4f}" in out
    assert 0 <= content["expected_calibration_error"] <= 1 and content["classes"][1]["class"] == "light one"
    assert content["seen_images"] == 0 and "trained on" not in err
    assert "24 of these images are among those that it was trained on" in predicted(photos / "train", "--evaluate")[1]


def test_evaluation_names_what_it_leaves_out(predicted: Predict, tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    for name, content in (("1.png", encoded()), ("2.png", b""), ("3.txt", b"")):
        (tmp_path / "dark" / name).write_bytes(content)
    (tmp_path / "light one").mkdir()
    with pytest.raises(PredictError, match="1 of 2 files could not be read"):
        predicted(tmp_path, "--evaluate")
    with pytest.raises(PredictError, match="allowed: one folder that holds a folder"):
        predicted(tmp_path / "dark" / "1.png", "--evaluate")
    with pytest.raises(PredictError, match="--top with --evaluate: allowed: one of them"):
        predicted(tmp_path, "--evaluate", "--top", "3")
    (tmp_path / "grey").mkdir()
    (tmp_path / "grey" / "1.png").write_bytes(encoded())
    with pytest.raises(ClassesError, match="no classes of the model: grey; allowed: some or all of dark, light one"):
        predicted(tmp_path, "--evaluate")


def test_bad_files_are_named_and_the_others_predicted(
    predicted: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = bad_files(tmp_path / "bad")
    good = odd_files(tmp_path / "good")
    assert len(bad) == 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PredictError, match=f"99 of {99 + len(good)} files could not be read"):
        predicted(tmp_path / "bad", tmp_path / "good", "--csv", tmp_path / "p.csv", "--json", tmp_path / "p.json")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500e3, "kilobytes"
    lines = [line for line in capsys.readouterr().err.splitlines() if str(tmp_path / "bad") in line]
    assert len(lines) == 99, "one line for each, but for the folder directory.jpg, which is empty"
    assert any("bomb.png: not an image that can be decoded" in line for line in lines)
    assert any("pipe.png: not a regular file" in line for line in lines)
    with (tmp_path / "p.csv").open(newline="", errors="surrogateescape") as file:
        written = [row["file"] for row in csv.DictReader(file)]
    assert sorted(written) == sorted(map(str, good)) and str(tmp_path / "good" / f"{ODD_NAMES[-1]}.png") in written
    unreadable = json.loads((tmp_path / "p.json").read_bytes())["unreadable"]
    assert {os.fsencode(each["file"]) for each in unreadable} >= {os.fsencode(path) for path in regular(bad)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--csv", "missing/p.csv"], "--csv missing/p.csv: there is no folder missing"),
        (["--csv", "-", "--json", "-"], "allowed: different files"),
    ],
)
def test_results_that_cannot_be_written_are_refused_first(options: list[str], message: str, predicted: Predict) -> None:
    with pytest.raises(UserError, match=message):
        predicted("missing.png", *options)


def test_an_archive_is_to_be_unpacked(predicted: Predict, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"photos\.zip: an archive; unpack it, and name its folder"):
        predicted(tmp_path / "photos.zip")


def test_only_results_are_replaced(predicted: Predict, photos: Path, trained: Path, tmp_path: Path) -> None:
    image = next(photos.rglob("*.png"))
    run = shutil.copytree(trained, tmp_path / "run")
    lost = [image, run / "best.pt", run / "predictions.csv", run / "confusion.csv"]
    before = [file.read_bytes() for file in lost]
    for file in lost:
        with pytest.raises(UserError, match="already there, and not written by this command"):
            predicted(image, "--csv", file)
    with pytest.raises(UserError, match="already there, and not written by this command"):
        predicted(image, "--json", run / "result.json")
    assert [file.read_bytes() for file in lost] == before
    results = ["--csv", tmp_path / "p.csv", "--json", tmp_path / "p.json"]
    (tmp_path / "p.csv").touch()
    for arguments in ([image], [image], [photos / "test", "--evaluate"]):
        predicted(*arguments, *results)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_what_is_written_to_standard_output_may_be_cut_off(option: str, photos: Path, trained: Path) -> None:
    command = [sys.executable, "-m", "cifar.predict", str(trained), str(photos), option, "-", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0


class Recorder(nn.Module):
    """Probability of class 0: the brightness of the upper left pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        share = images[:, 0, 0, 0].float() / 255
        return torch.stack([share, 1 - share], 1)


def test_views_are_averaged(trained: Path) -> None:
    from cifar.inference.tta import TTA, averaged

    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 2, 2] = 255
    images[:, :, 0, 31] = 255
    assert averaged(Recorder(), images, "none").tolist() == [[0, 1]]
    assert averaged(Recorder(), images, "flip").tolist() == [[0.5, 0.5]], "the corner on the right is mirrored"
    views = list(TTA["crops"](images))
    assert len(views) == 10 and all(view.shape == images.shape for view in views)
    assert averaged(Recorder(), images, "crops")[0, 0] == pytest.approx(0.2), "one is moved by 2 pixels, one mirrored"
    model = load_model(trained, "cpu")
    some = torch.randint(256, (3, 3, 12, 12), dtype=torch.uint8)
    mirrored = torch.stack([model.probabilities(some), model.probabilities(some.flip(3))]).mean(0)
    assert torch.allclose(model.probabilities(some, tta="flip"), mirrored)


def test_it_says_what_is_averaged_and_when_that_is_wrong(predicted: Predict, photos: Path) -> None:
    _, err = predicted(photos / "test" / "dark", "--tta", "flip")
    assert "averaged over the image and its mirror image" in err and "augment.flip=false" in err


def test_what_is_no_batch_is_refused_with_its_remedy(trained: Path) -> None:
    model: Model = load_model(trained, "cpu")
    batch = torch.zeros(2, 3, 12, 12, dtype=torch.uint8)
    for images, remedy in (
        (batch / 255, r"\(images \* 255\)\.round\(\)\.to\(torch\.uint8\)"),
        (batch - 2.0, "from -2 to -2: pass images as they were before"),
        (batch.long(), r"images\.to\(torch\.uint8\)"),
        (batch[0], r"images\[None\]"),
        (batch.permute(0, 2, 3, 1), r"images\.permute\(0, 3, 1, 2\)"),
        (batch[:, :1], r"images\.expand"),
        (batch[..., :9], "have to be resized first"),
        (batch.numpy(), r"torch\.from_numpy\(images\)"),
    ):
        with pytest.raises(InputError, match=remedy):
            model.predict(images)  # type: ignore[arg-type]


def test_files_are_read_as_in_training(trained: Path, photos: Path, compose: Any) -> None:
    config = check(compose("data=image_folder", f"data.root={photos}", "device=cpu"))
    images = load_splits(config).train.images
    model = load_model(trained, "cpu")
    read = model.read(sorted((photos / "train").rglob("*.png")))
    assert {image.numpy().tobytes() for image in images} <= {image.numpy().tobytes() for image in read}

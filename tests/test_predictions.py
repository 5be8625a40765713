"""predictions.csv and examples/: what a run says of each image, and the few that it keeps for its report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from backbones import TRANSFER
from omegaconf import DictConfig
from PIL import Image
from reporters import throw

from cifar import examples, predictions
from cifar.data.images import from_arrays
from cifar.experiment import run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.predictions import Row
from cifar.reporting import NO_REPORTER, Pruned
from cifar.results import read_result
from cifar.run_data import load_splits, load_test_images
from cifar.trained import load_classifier

Settings = Callable[..., Config]
FROZEN = ("transfer=frozen", *TRANSFER)
ODD = ("=1+1", "NA", "a,b", 'say "<b>"', "new\nline", "-2", "\u00e4 b", "")
"""Names that CSV, pandas, HTML or a spreadsheet may take for something else."""


@pytest.fixture
def settings(compose: Callable[..., DictConfig], tiny: list[str]) -> Settings:
    """settings(*overrides): the checked config of a tiny run, on a backbone where the overrides name one."""

    def checked(*overrides: str) -> Config:
        pretrained = "transfer=frozen" in overrides
        return check(compose(*(line for line in tiny if not (pretrained and line.startswith("model."))), *overrides))

    return checked


@pytest.mark.parametrize("options", [("optimizer.lr=0.1", "ema.decay=0.5"), FROZEN])
def test_rows_are_what_best_pt_predicts(options: tuple[str, ...], settings: Settings, tmp_path: Path) -> None:
    config = settings("epochs=3", "test=true", "precision=fp32", *options)
    run(config, str(tmp_path), NO_REPORTER)
    result, model, splits = read_result(tmp_path), load_classifier(tmp_path / "best.pt"), load_splits(config)
    rows = predictions.read(tmp_path / "predictions.csv")
    parts = {"val": (splits.val, result["best"]["val_accuracy"], result["best"]["val_loss"])}
    parts["test"] = (load_test_images(config, splits), result["test"]["accuracy"], result["test"]["loss"])
    assert list(dict.fromkeys(row.part for row in rows)) == ["val", "test"]
    for part, (images, accuracy, loss) in parts.items():
        of_part = [row for row in rows if row.part == part]
        assert [row.file for row in of_part] == list(images.names)
        assert [row.true for row in of_part] == [images.classes[label] for label in images.labels]
        assert np.mean([row.right for row in of_part]) == accuracy
        assert np.mean([row.loss for row in of_part]) == pytest.approx(loss, rel=1e-4)
        shares = model.probabilities(images.images[:])
        assert [row.predicted for row in of_part] == model.predict(images.images[:])
        assert [row.probability for row in of_part] == pytest.approx(shares.amax(1).tolist(), abs=1e-4)
        of_true = shares[torch.arange(len(shares)), images.labels]
        assert [row.true_probability for row in of_part] == pytest.approx(of_true.tolist(), abs=1e-4)


def test_a_resumed_run_has_the_same_rows_and_examples(settings: Settings, tmp_path: Path) -> None:
    whole, part, later = (tmp_path / name for name in ("whole", "part", "later"))
    for folder in (whole, part, later):
        folder.mkdir()
    run(settings("epochs=3"), str(whole), NO_REPORTER)
    with pytest.raises(Pruned):
        run(settings("epochs=3"), str(part), throw(Pruned("so far")))
    assert (part / "predictions.csv").exists() and not (part / "examples").exists()
    run(settings("epochs=3", f"resume={part}"), str(part), NO_REPORTER)
    run(settings("epochs=3", f"resume={whole}", "test=true"), str(later), NO_REPORTER)
    expected = (whole / "predictions.csv").read_bytes()
    assert (part / "predictions.csv").read_bytes() == expected
    assert (later / "predictions.csv").read_bytes().startswith(expected)
    for folder in (part, later):
        files = {path.name: path.read_bytes() for path in (folder / "examples").iterdir()}
        assert files == {path.name: path.read_bytes() for path in (whole / "examples").iterdir()}


def test_names_are_read_back_as_they_are(tmp_path: Path) -> None:
    rows = [Row(name, "val", name, name, 0.5, 0.25, 1e-9) for name in ODD]
    predictions.write(tmp_path / "predictions.csv", rows)
    assert predictions.read(tmp_path / "predictions.csv") == rows


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"file,part\na,val\n", r"not a predictions\.csv"),
        (b"%s\na,val,a,b,0.5,0.5,1\nb,val\n", "line 3: not enough values"),
        (b"%s\na,val,a,b,0.5,0.5\n", "line 2: .*missing 1 required"),
        (b"%s\na,val,a,b,0.5,half,1\n", "line 2: could not convert string to float: 'half'"),
        (b"%s\n\xff,val,a,b,0.5,0.5,1\n", "'utf-8' codec can't decode"),
    ],
)
def test_an_error_says_which_file_and_line(content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "damaged.csv"
    file.write_bytes(content.replace(b"%s", ",".join(predictions.COLUMNS).encode()))
    with pytest.raises(ValueError, match=rf"damaged\.csv: cannot be read \({problem}"):
        predictions.read(file)


def test_of_very_many_images_those_with_the_largest_loss_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MOST", 3)
    monkeypatch.setattr(predictions, "AT_ONCE", 4)
    logits = np.array([[5, 0], [0, 5], [1, 0], [0, 0], [0, 9]], np.float32)
    rows = predictions.rows_of("val", (), ("a", "b"), np.array([0, 0, 0, 0, 0]), logits, temperature=2.0)
    assert [(row.file, row.predicted) for row in rows] == [("1", "b"), ("3", "a"), ("4", "b")]
    assert rows[0].loss == pytest.approx(np.log1p(np.exp(5)))
    assert rows[0].probability == pytest.approx(1 / (1 + np.exp(-2.5)))
    assert rows[0].true_probability == pytest.approx(1 - rows[0].probability)


@pytest.mark.parametrize("size", [8, 48, 224])
def test_examples_are_small_chosen_images(size: int, tmp_path: Path) -> None:
    """Noise is the largest image there is; an image may be chosen twice."""
    random = np.random.default_rng(0)
    val = from_arrays(random.integers(0, 256, (120, size, size, 3), np.uint8), np.arange(120) % 4, tuple("abcd"))
    rows = predictions.rows_of(
        *("val", val.names, val.classes, val.labels.numpy()), random.normal(size=(120, 4)).astype(np.float32), None
    )
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "val-1000.png").write_text("of an earlier time")
    examples.write(folder, rows, val, val.images[: examples.FIRST])
    index = pd.read_csv(folder / "index.csv", dtype=str, keep_default_na=False)
    assert {path.name for path in folder.iterdir()} == {"index.csv", *index.image}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    assert index.kind.value_counts().to_dict() == {"mistake": 12, "confused": 30, "least sure": 12, "batch": 1}
    chosen = index[index.kind != "batch"]
    assert (chosen.image.str.extract(r"val-(\d+)\.")[0] == chosen.file).all()
    assert ((chosen["class"] == chosen.predicted) == (chosen.kind == "least sure")).all()
    assert chosen.probability[chosen.kind == "mistake"].astype(float).is_monotonic_decreasing
    image = Image.open(folder / chosen.image.iloc[0])
    assert image.size == (min(size, 96),) * 2
    if size <= 48:
        pixels = val.images[int(chosen.file.iloc[0])]
        assert np.array_equal(np.asarray(image), pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("options", [(), FROZEN, (*FROZEN, "transfer.views=2", "augment.flip=true")])
def test_the_first_batch_is_shown_as_the_network_sees_it(
    options: tuple[str, ...], settings: Settings, tmp_path: Path
) -> None:
    config = settings("epochs=1", "augment=none", "augment.crop=0", "augment.flip=false", *options)
    run(config, str(tmp_path), NO_REPORTER)
    train = load_splits(config).train
    sheet = np.asarray(Image.open(tmp_path / "examples" / "batch.png"))
    size = 32 if options else train.images.shape[-1]
    assert sheet.shape == (4 * (size + 2) + 2, 8 * (size + 2) + 2, 3)
    if not options:
        first = sheet[2 : 2 + size, 2 : 2 + size].transpose(2, 0, 1)
        assert any(np.array_equal(first, image) for image in train.images[:].numpy())


def test_a_run_whose_examples_cannot_be_written_is_finished(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "examples").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        run(settings("epochs=1"), str(tmp_path), NO_REPORTER)
    assert read_result(tmp_path)["status"] == "finished"
    assert "examples: File exists; the report will show no images" in caplog.text

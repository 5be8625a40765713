"""Accuracy is given without the validation and test images that are training images too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from analysis.frames import read
from analysis.pages import run as page
from cifar import predictions
from cifar.experiment import run
from cifar.intervals import wilson
from cifar.leaks import without_leaks
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER
from cifar.results import read_result


def write_shots(folder: Path, count: int, generator: np.random.Generator) -> list[Image.Image]:
    """Images of coloured blobs, written as 0.png, 1.png, ..."""
    folder.mkdir(parents=True)
    pixels = generator.integers(256, size=(count, 6, 6, 3), dtype=np.uint8)
    images = [Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC) for each in pixels]
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    return images


def test_accuracy_is_of_the_images_that_are_left() -> None:
    right = [True, True, False, True, False]
    facts = without_leaks(right, np.array([True, True, False, False, False]))
    low, high = wilson(1 / 3, 3)
    assert facts["duplicates"] == 2
    assert facts["with"]["accuracy"] == 0.6 and facts["with"]["images"] == 5
    assert facts["without"] == {"accuracy": pytest.approx(1 / 3), "low": low, "high": high, "images": 3}
    assert without_leaks(right, np.ones(5, bool))["without"] == {}


@pytest.mark.parametrize("check, duplicates", [("exact", 1), ("near", 2)])
def test_a_run_tells_accuracy_without_leaks(
    check: str, duplicates: int, settings: Callable[..., Config], tmp_path: Path
) -> None:
    generator, root = np.random.default_rng(0), tmp_path / "images"
    for label in ("cat", "dog"):
        train = write_shots(root / "train" / label, 6, generator)
        write_shots(root / "val" / label, 2, generator)
        write_shots(root / "test" / label, 3, generator)
    train[0].save(root / "test" / "dog" / "0.png")
    ImageEnhance.Brightness(train[1]).enhance(0.8).crop((1, 0, 32, 31)).save(root / "test" / "dog" / "1.png")
    of_folder = ("data=image_folder", f"data.root={root}", "data.limit=null", f"data.check_duplicates={check}")
    config = settings(*of_folder, "epochs=1", "test=true", "model.depths=[1]", "model.width=2")
    (tmp_path / "run").mkdir()
    run(config, str(tmp_path / "run"), NO_REPORTER)
    facts = read_result(tmp_path / "run")["without_leaks"]
    assert ("val" in facts) == (check == "near")
    assert facts["test"]["duplicates"] == duplicates
    rows = [row for row in predictions.read(tmp_path / "run" / predictions.FILE) if row.part == predictions.TEST]
    leaked = {f"test/dog/{number}.png" for number in range(duplicates)}
    rest = [row.right for row in rows if row.file not in leaked]
    assert facts["test"]["without"]["accuracy"] == np.mean(rest) and len(rest) == 6 - duplicates
    shown = {fact.label: fact for fact in page.report_of(read(tmp_path / "run")).facts}
    fact = shown["test accuracy without duplicates of training images"]
    assert fact.value == f"{np.mean(rest):.4f}" and f"{duplicates} left out" in fact.note
    assert "validation accuracy without duplicates of training images" not in shown

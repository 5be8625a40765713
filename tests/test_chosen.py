"""Which trained model a place means."""

from __future__ import annotations

import shutil
from pathlib import Path

import optuna
import pytest
import torch

from cifar.inference.chosen import PlaceError, choose
from cifar.inference.model import ModelError, load_model


def test_a_run_and_its_best_pt_are_one_model(tiny_run: Path) -> None:
    model = load_model(tiny_run, "cpu")
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    probabilities = model.probabilities(images)
    assert probabilities.shape == (5, len(model.classes)) and torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.equal(load_model(tiny_run / "best.pt", "cpu").probabilities(images), probabilities)
    assert model.predict(images) == [model.classes[index] for index in probabilities.argmax(1)]


def test_a_study_means_its_best_trial(searched: Path) -> None:
    chosen = choose(searched / "search")
    assert chosen.file.is_file() and "is not confirmed" in chosen.reason and chosen.study == searched / "search"


def test_a_confirmed_trial_without_its_weights_is_no_other_trial(searched: Path, tmp_path: Path) -> None:
    study = shutil.copytree(searched / "search", tmp_path / "search")
    (study / "confirmed.yaml").write_text("trial: 2\n")
    with pytest.raises(PlaceError, match=r"trial 2 .* is confirmed, but none of its runs .*best\.pt.*from_study="):
        choose(study)


def test_an_exported_model_runs_on_the_cpu_alone(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelError, match=r"--device cuda: .* runs on the CPU; allowed: auto, cpu"):
        load_model(tmp_path, "cuda")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", "no such file or directory"),
        ("empty", "allowed: a run directory"),
        ("photo.jpg", "holds no model of this program"),
        ("unfinished", "has not finished an epoch"),
        ("failed", "no trial of study failed is complete"),
        ("grid", "holds several runs, but no study; name one of them, as .*/1, the best one"),
    ],
)
def test_a_place_without_a_model_is_refused(what: str, message: str, tiny_run: Path, tmp_path: Path) -> None:
    place = tmp_path / what
    if what == "photo.jpg":
        place.write_bytes(b"")
    elif what != "absent":
        place.mkdir()
    if what == "unfinished":
        (place / "result.json").write_text("{}")
    if what == "failed":
        study = optuna.create_study(storage=f"sqlite:///{place}/study.db", study_name=what)
        study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL))
    if what == "grid":
        for name in "01":
            shutil.copytree(tiny_run, place / name)
        (place / "0" / "best.pt").unlink()
    with pytest.raises(PlaceError, match=message):
        choose(place)

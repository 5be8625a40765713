"""What a search cannot do is said before its first trial, or ends it at once; what is there stays as it was."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import toy_app
import yaml
from sweeps import Toy, outcomes

from cifar.errors import UserError
from cifar.options.option import ConfigError
from cifar.sweep.content import OtherContent

NAMED = ("hydra.sweeper.study_name=s", "hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=3")


def images(fingerprint: str) -> dict[str, object]:
    part = {"images": 8, "fingerprint": fingerprint}
    return {"source": "image_folder", "classes": 2, "images": 16, "fingerprint": fingerprint, "files": None} | {
        "train": part,
        "val": part,
    }


def test_a_start_on_other_images_leaves_what_the_study_says(
    tmp_path: Path, search: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_app, "IMAGES", {"A": images("a"), "B": images("b")})
    folder = ("data=image_folder", *NAMED)
    search(*folder, "data.root=A")
    best = (tmp_path / "study" / "best.yaml").read_text()
    with pytest.raises(OtherContent):
        search(*folder, "data.root=B", "hydra.sweeper.n_trials=4")
    assert (tmp_path / "study" / "best.yaml").read_text() == best and "data.root=A" in best
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study/study.db")
    assert "data.root=A" in study.user_attrs["overrides"]


@pytest.mark.parametrize(
    "message, expected",
    [
        ("device=cuda: no such device", ["withdrawn"]),
        ("/data: no such directory", ["withdrawn"]),
        ("optimizer.lr=0.1: too large", ["failed", "failed"]),
        ("optimizer: SGD cannot be built", ["failed", "failed"]),
    ],
)
def test_an_error_that_concerns_every_trial_ends_the_search(
    tmp_path: Path, search: Toy, monkeypatch: pytest.MonkeyPatch, message: str, expected: list[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise ConfigError(message)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=message.partition(":")[0]):
        patch.setattr(toy_app, "misbehave", fail)
        search(*NAMED)
    assert outcomes(tmp_path) == expected
    if expected == ["withdrawn"]:
        search(*NAMED, "batch_size=16")  # other settings: no trial was made with the first ones
        assert outcomes(tmp_path) == ["withdrawn", *["COMPLETE"] * 3]


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["scheduler=choice(plateau,cosine)", "scheduler.patience=choice(1,2)"],
            "scheduler=cosine: .*A key that only some options have",
        ),
        (["optimizer=choice(sgd,adam)", "optimizer.nesterov=choice(true,false)"], "optimizer=adam"),
        (["hydra.sweeper.study_name='..'"], "study_name=..: not the name of a folder below sweeps/"),
        ([f"hydra.sweeper.study_name={'x' * 300}"], "not the name of a folder"),
        (["+hydra.sweeper.params={from_study:sweeps/s}"], "from_study: not in a file of a search"),
    ],
)
def test_what_some_trials_could_not_do_is_refused(
    tmp_path: Path, sweep: Toy, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=message) as raised:
        sweep("hydra/sweeper=optuna", "data=digits", *overrides)
    assert isinstance(raised.value, UserError) and not list(tmp_path.glob("**/study.db"))


def test_a_key_that_must_be_given_is_searched_with_its_group(tmp_path: Path, search: Toy) -> None:
    search(*NAMED, "model=choice(torchvision)", "model.name=choice(resnet18,mobilenet_v3_small)")
    assert outcomes(tmp_path) == ["COMPLETE"] * 3
    best = yaml.safe_load((tmp_path / "study" / "best.yaml").read_text())
    assert best["settings"]["scheduler"]["patience"] == 2 and "lr" not in best["settings"]["optimizer"]

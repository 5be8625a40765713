"""What earlier versions wrote is resumed, summarised, reported, confirmed and used.

tests/former/VERSION.tar.gz holds, of tiny models on digits: a finished run, and one that was interrupted in epoch 4 of
200; a fine-tuned and a frozen one; a search that was stopped in its second trial of three; a confirmed search. A
version that changes settings or files adds what its predecessor wrote (tests/former/write.sh).
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from processes import succeed
from sweeps import trials

from analysis import report, summary
from cifar.results import read_metrics, read_result
from cifar.trained import load_classifier

RunPy = Callable[..., "subprocess.CompletedProcess[str]"]
VERSIONS = sorted((Path(__file__).parent / "former").glob("*.tar.gz"))
TINY = ("data=digits", "data.limit=120", "model.depths=[1]", "model.width=2", "device=cpu", "threads=1")
CONFIRMED = (
    "data=digits",
    "data.limit=240",
    "model.depths=[1]",
    "model.width=4",
    "device=cpu",
    "threads=1",
    "epochs=6",
)


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name.removesuffix(".tar.gz"))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What a former version wrote, unpacked."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_there_are_files_of_a_former_version() -> None:
    assert VERSIONS


@pytest.mark.parametrize("name", ["run", "finetuned", "frozen", "sweeps/confirmed/0"])
def test_a_trained_model_is_loaded(place: Path, name: str) -> None:
    classifier = load_classifier(place / name / "best.pt")
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert classifier.classes == tuple("0123456789")
    assert set(classifier.predict(images)) <= set(classifier.classes)
    assert classifier.logits(images).isfinite().all()


@pytest.mark.parametrize("name, epochs", [("interrupted", 6), ("finetuned", 3), ("frozen", 3)])
def test_a_run_is_resumed(place: Path, name: str, epochs: int, run_py: RunPy) -> None:
    before = read_metrics(place / name / "metrics.csv")
    succeed(run_py(f"resume={name}", f"epochs={epochs}", cwd=place))
    after = read_metrics(place / name / "metrics.csv")
    assert after[: len(before)] == before
    assert [metrics.epoch for metrics in after] == list(range(1, epochs + 1))
    assert read_result(place / name)["status"] == "finished"


def test_a_search_is_resumed(place: Path, run_py: RunPy) -> None:
    """With its own command; the interrupted trial resumes from its checkpoint."""
    interrupted = read_metrics(place / "sweeps" / "stopped" / "1" / "metrics.csv")
    search = ("hydra/sweeper=optuna", "hydra/sweeper/pruner=none", "hydra.sweeper.sampler.seed=1")
    named = ("hydra.sweeper.study_name=stopped", "hydra.sweeper.n_trials=3")
    output = succeed(run_py("-m", *search, *named, *TINY, "epochs=40", "optimizer=adamw", cwd=place))
    assert "1 of 3 trials are done" in output
    by_number = trials(place / "sweeps", "stopped")
    assert [t.state.name for t in by_number] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    retried = next(t for t in by_number if t.user_attrs.get("retry_of") == 1)
    resumed = read_metrics(place / "sweeps" / "stopped" / str(retried.number) / "metrics.csv")
    assert resumed[: len(interrupted)] == interrupted and len(resumed) == 40


def test_a_search_whose_command_names_a_former_path_starts_and_resumes(tmp_path: Path, run_py: RunPy) -> None:
    search = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=named", *TINY, "epochs=1")
    former = ("model._target_=cifar.resnet.BottleneckResNet", "scheduler._target_=cifar.optim.plateau")
    succeed(run_py(*search, *former, "hydra.sweeper.n_trials=1", cwd=tmp_path))
    output = succeed(run_py(*search, "hydra.sweeper.n_trials=2", cwd=tmp_path))
    assert "1 of 2 trials are done" in output
    confirm = ("-m", "hydra/sweeper=confirm", "hydra.sweeper.study=sweeps/named", "hydra.sweeper.test=false")
    counts = ("hydra.sweeper.top=1", "hydra.sweeper.seeds=1")
    succeed(run_py(*confirm, *counts, *TINY, *former, "epochs=1", cwd=tmp_path))


def test_crops_that_were_searched_keep_their_meaning(tmp_path: Path, run_py: RunPy) -> None:
    """0.1.0-crop.tgz: a search over data.crop and data.flip, three trials, and a run with both, of 0.1.0."""
    with tarfile.open(VERSIONS[0].with_name("0.1.0-crop.tgz")) as archive:
        archive.extractall(tmp_path, filter="data")
    search = ("-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", "hydra.sweeper.study_name=crop")
    space = ("data.crop=choice(0,2)", "data.flip=choice(true,false)", "optimizer=adamw", "precision=fp32", "epochs=2")
    output = succeed(run_py(*search, *TINY, *space, "hydra.sweeper.n_trials=4", cwd=tmp_path))
    assert "3 of 4 trials are done" in output and "data.crop=" in output
    study = tmp_path / "sweeps" / "crop"
    settings = yaml.safe_load((study / "3" / ".hydra" / "config.yaml").read_text("utf-8"))
    drawn = trials(tmp_path / "sweeps", "crop")[3].params
    assert "crop" not in settings["data"]
    assert (settings["augment"]["crop"], settings["augment"]["flip"]) == (drawn["data.crop"], drawn["data.flip"])
    best = yaml.safe_load((study / "best.yaml").read_text("utf-8"))
    succeed(run_py("from_study=sweeps/crop", "device=cpu", "hydra.run.dir=trained", cwd=tmp_path))
    trial, trained = (read_metrics(path / "metrics.csv") for path in (study / str(best["trial"]), tmp_path / "trained"))
    for now, then in zip(trained, trial, strict=True):  # the trial may be one of the archive, of another processor
        assert (now.train_loss, now.val_loss) == pytest.approx((then.train_loss, then.val_loss), rel=1e-3)
    before = read_metrics(tmp_path / "run" / "metrics.csv")
    succeed(run_py("resume=run", "epochs=3", cwd=tmp_path))
    assert read_metrics(tmp_path / "run" / "metrics.csv")[:2] == before


def test_other_settings_are_still_refused(place: Path, run_py: RunPy) -> None:
    command = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=stopped", *TINY, "optimizer=adamw")
    answer = run_py(*command, "epochs=41", cwd=place)
    assert answer.returncode == 1 and "epochs: was 40, now 41" in answer.stderr
    assert "_target_" not in answer.stderr


def test_a_confirmed_search_stays_confirmed(place: Path, run_py: RunPy) -> None:
    confirm = ("hydra/sweeper=confirm", "hydra.sweeper.study=sweeps/confirmed")
    counts = ("hydra.sweeper.top=2", "hydra.sweeper.seeds=2")
    output = succeed(run_py("-m", *confirm, *counts, *CONFIRMED, cwd=place))
    assert "0.1562 on 2 fresh seeds" in output and "test accuracy 0.1306" in output
    assert [path.name for path in (place / "sweeps" / "confirmed" / "confirmation").glob("test-*")] == ["test-1"]
    trained = ("from_study=sweeps/confirmed", "hydra.run.dir=again")
    succeed(run_py(*trained, cwd=place))
    (config,) = (place / "again" / ".hydra").glob("config.yaml")
    assert yaml.safe_load(config.read_text("utf-8"))["optimizer"]["lr"] == pytest.approx(0.04447, rel=1e-3)
    assert len(read_metrics(place / "again" / "metrics.csv")) == 6


def test_a_search_is_summarised_and_reported(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    summary.main(["sweeps/confirmed", "--json"])
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["trials"] == {"complete": 5, "pruned": 4} and shown["best"]["architecture"]["width"] == 4
    assert shown["confirmed"]["mean"] == pytest.approx(0.15625)
    assert shown["confirmed"]["test"]["accuracy"] == pytest.approx(0.1306, abs=1e-4)
    report.main(["sweeps/confirmed", "sweeps/stopped"])
    report.main(["sweeps/confirmed"])
    assert (place / "sweeps" / "confirmed" / "report" / "report.html").stat().st_size > 100_000
    report.main(["interrupted"])
    assert "interrupted" in (place / "interrupted" / "report" / "report.md").read_text("utf-8")

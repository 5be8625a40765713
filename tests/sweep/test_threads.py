"""The CPU threads of a trial are part of its figures: training with its settings takes them along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from omegaconf import OmegaConf

from cifar.results import read_result

RunPy = Callable[..., "CompletedProcess[str]"]
SMALL = ("data=digits", "data.limit=300", "model.depths=[1,1]", "model.width=8", "epochs=2", "device=cpu")
SEARCH = (
    "-m",
    "hydra/sweeper=optuna",
    "hydra/sweeper/pruner=none",
    "hydra.sweep.dir=study",
    "hydra.sweeper.n_trials=2",
)
CONFIRM = ("-m", "hydra/sweeper=confirm", "hydra.sweeper.study=study", "hydra.sweeper.top=1", "hydra.sweeper.seeds=1")


def trained(run_py: RunPy, place: Path, *overrides: str) -> tuple[float, int]:
    """The validation accuracy and the threads of a run with the settings of the study."""
    done = run_py("from_study=study", *overrides, cwd=place, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    result = read_result(place / overrides[0].partition("=")[2])
    return result["best"]["val_accuracy"], result["device"]["threads"]


def test_a_run_from_a_study_reproduces_the_trial_of_one_of_two_workers(run_py: RunPy, tmp_path: Path) -> None:
    done = run_py(*SEARCH, *SMALL, "hydra.sweeper.n_jobs=2", cwd=tmp_path, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stdout + done.stderr
    best = OmegaConf.load(tmp_path / "study" / "best.yaml")
    threads = read_result(Path(best.folder))["device"]["threads"]
    assert best.execution == {"threads": threads} and f"threads={threads}" in best.overrides
    assert f"with threads={threads}, as the trial had" in done.stdout
    assert trained(run_py, tmp_path, "hydra.run.dir=run") == (best.value, threads)
    assert trained(run_py, tmp_path, "hydra.run.dir=other", f"threads={threads + 1}")[1] == threads + 1
    confirmed = run_py(*CONFIRM, *SMALL, "threads=2", cwd=tmp_path, OMP_NUM_THREADS="2")
    assert confirmed.returncode == 0, confirmed.stdout + confirmed.stderr
    saved = OmegaConf.load(tmp_path / "study" / "confirmed.yaml")
    assert saved.execution == {"threads": threads}
    assert [line for line in saved.overrides if line.startswith("threads=")] == [f"threads={threads}"]


def test_the_threads_of_the_trial_count_where_the_command_line_has_changed_since(run_py: RunPy, tmp_path: Path) -> None:
    for total, threads in ((1, 1), (2, 2)):
        number = ("hydra.sweeper.n_trials=1",) if total == 1 else ()
        done = run_py(*SEARCH, *number, *SMALL, f"threads={threads}", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    best = OmegaConf.load(tmp_path / "study" / "best.yaml")
    threads = read_result(Path(best.folder))["device"]["threads"]
    assert threads == best.trial + 1
    assert [line for line in best.overrides if line.startswith("threads=")] == [f"threads={threads}"]

"""Studies, and real sweeps of tests/toy_app.py, for the tests of the sweeper."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import optuna
from forkserver import Forked, shared
from optuna.trial import FrozenTrial

from cifar.sweep.study import SharedStudy, create

APP = Path(__file__).parent / "toy_app.py"
Toy = Callable[..., str]
"""Sweeps the toy in this process and returns what it printed; the fixtures sweep and search are such."""
QUICK = ("hydra.sweeper.sampler.seed=1", "hydra.sweeper.heartbeat=0.2", "hydra.sweep.dir=study", "epochs=4")


class Sweep:
    """A sweep in `folder`/study, in a separate process; its output goes to a file, which outlives its readers."""

    def __init__(
        self, folder: Path, *overrides: str, sweeper: tuple[str, ...] = ("optuna", *QUICK), **environment: str
    ) -> None:
        handle, name = tempfile.mkstemp(dir=folder, suffix=".log")
        self.log = Path(name)
        argv = [str(APP), "-m", f"hydra/sweeper={sweeper[0]}", *sweeper[1:], *overrides]
        self.process = started(argv, folder, os.environ | {"OMP_NUM_THREADS": "1", **environment}, handle)
        os.close(handle)

    def wait(self) -> tuple[int, str]:
        """The exit code and the output, once it has ended."""
        return self.process.wait(timeout=300), self.log.read_text()

    def workers(self) -> list[int]:
        """The process ids of the workers (and of joblib's resource tracker)."""
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]


def started(argv: list[str], cwd: Path, environment: dict[str, str], output: int) -> subprocess.Popen[bytes] | Forked:
    """A script in a new session; its output goes to the file `output`."""
    if shared().accepts(environment):
        return shared().start(argv, cwd, environment, output, output, start_new_session=True)
    command = [sys.executable, *argv]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def trials(folder: Path, study: str = "study") -> list[FrozenTrial]:
    storage = f"sqlite:///{folder}/{study}/study.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).get_trials()


def outcomes(folder: Path, study: str = "study") -> list[str]:
    """The state of each trial, or the outcome of a failed one."""
    return [t.user_attrs.get("outcome", t.state.name) for t in trials(folder, study)]


def fingerprint(folder: Path) -> str:
    """Of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def make_study(
    folder: Path, pruner: optuna.pruners.BasePruner | None = None, kind: type[SharedStudy] = SharedStudy
) -> SharedStudy:
    """An empty study of ten trials."""
    url = f"sqlite:///{folder}/study.db"
    create(url, "s", folder, "maximize", {})
    return kind(url, "s", folder, 10, pruner or optuna.pruners.NopPruner(), 3)


def ask(study: SharedStudy) -> optuna.Trial:
    trial = study.ask(lambda number: optuna.samplers.RandomSampler(seed=number), 0)
    assert trial is not None
    return trial

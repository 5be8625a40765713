"""What the benchmarks of photographs share: commands as users type them, runs that are kept, accuracy by files."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import machine, save
from cifar.errors import UserError

ROOT = Path(__file__).parent.parent
RUN = (sys.executable, str(ROOT / "run.py"))
BACKBONE = ("transfer.backbone=efficientnet_lite0", "transfer.image_size=128")
"""EfficientNet-Lite0 with the weights of its package."""


class CommandError(UserError):
    """A command that failed."""

    several_lines = True


class Kept:
    """Results by name in a JSON file: what is there is not measured again, except on another processor."""

    def __init__(self, path: Path) -> None:
        self.path = path
        results: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        processor = machine()["processor"]
        self.results = {name: row for name, row in results.items() if row["machine"]["processor"] == processor}

    def get(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.results:
            self.results[name] = measure() | {"machine": machine()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".new")
            temporary.write_text(json.dumps(self.results, indent=2) + "\n", "utf-8")
            temporary.rename(self.path)
            print(f"{name}: {self.results[name]}", flush=True)
        result: dict[str, Any] = self.results[name]
        return result


def typed(words: Sequence[str], place: Path, environment: Mapping[str, str] | None = None) -> float:
    """Run a command in the folder `place`, its output in place/log; the seconds that it took.

    Raises CommandError where it fails.
    """
    process, start = started(words, place, environment), time.perf_counter()
    try:
        process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # Ctrl-C does not reach it
        raise
    if process.returncode != 0:
        end = (place / "log").read_text("utf-8", "replace")[-1000:]
        raise CommandError(f"{shlex.join(words)}: exit code {process.returncode}\n{end}")
    return time.perf_counter() - start


def started(words: Sequence[str], place: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A command that has begun in the folder `place`; its output is added to place/log."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "log").open("ab") as log:
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {})
        return subprocess.Popen(
            list(words), cwd=place, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def line(words: Sequence[str], places: Mapping[str, str]) -> str:
    """A command as it is typed, with names in place of the paths of this machine."""
    text = shlex.join(words)
    for place, name in {shlex.join(RUN): "python run.py", **places}.items():
        text = text.replace(place, name)
    return text


def predicted(run: Path, test: Path, place: Path) -> float:
    """The accuracy of a run's best epoch on a folder of classes; a file that cannot be read counts as wrong."""
    file = place / "predictions.csv"
    file.unlink(missing_ok=True)
    try:
        typed((sys.executable, "-m", "cifar.predict", str(run), str(test), "--csv", str(file)), place)
    except CommandError:
        if not file.exists():  # else it names files that it cannot read, after it has predicted the others
            raise
    return accuracy(file, test)


def accuracy(predictions: Path, test: Path) -> float:
    """The share of the files test/CLASS/* for which a CSV file with the columns file and class names CLASS."""
    with predictions.open(newline="", encoding="utf-8") as stream:
        classes = {Path(row["file"]).resolve(): row["class"] for row in csv.DictReader(stream)}
    files = [file.resolve() for file in test.glob("*/*")]
    return sum(classes.get(file) == file.parent.name for file in files) / len(files)


def finish(name: str, command: str, result: dict[str, Any], keep: bool) -> None:
    """Print a result, and keep it with those of the project where that is asked for."""
    if keep:
        save(name, command, result)
    else:
        print(json.dumps(result, indent=2))

"""One's own images in a given time: this program's recipe and its defaults, and two peers, each alone.

python -m benchmarks photographs --set cifar10=DIR --set fashion=DIR --peers PYTHON --out OUT --keep

PYTHON is the interpreter of an environment with the extra `peers`; without it, only this program is measured. A run is
a command as users type it. Its test accuracy is counted here, from one predicted class for each test image, whichever
program predicts. The same command continues where it was stopped; OUT/runs.json has what was measured, and all of it
that is of these sets, this time and this processor is in the result, whichever command measured it. For a
processor with bf16 it is in a separate file.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import machine
from benchmarks.folders import add_sets, sets, words_of, written
from benchmarks.typed import BACKBONE, RUN, CommandError, Kept, accuracy, finish, line, predicted, typed
from cifar.formatting import count_of
from cifar.results import read_result

PEERS = Path(__file__).parent / "peers"
ADAMW = "epochs=80"
"""With no more epochs, Ultralytics takes AdamW for 8,000 training images."""
NOTES = {
    "photographs": "one command, and the time",
    "photographs, frozen": "EfficientNet-Lite0 of ImageNet: other images were seen before",
    "photographs, fine-tuned": "the same network, and the size of the images",
    "defaults": "the recipe for CIFAR-10: the plateau does not know when the time ends",
    "ultralytics, 64 pixels": "the user must know imgsz; on a CPU without bf16, in which its optimizer computes, a step"
    " of 16 images took 5.5 s (AMD EPYC avx2, 2 cores, 2026-11-28): no epoch in 10 minutes",
    "ultralytics, 64 pixels, AdamW": "the user must know imgsz; epochs=80 does not count beside a time, but with so few"
    " it takes AdamW in place of the optimizer that computes in bf16",
    "ultralytics, default size": "224 pixels",
    "ultralytics, default size, AdamW": "224 pixels; epochs=80 as above",
    "fastai, 64 pixels": "the user must find the epochs that fit: one is timed before, which is not counted",
    "fastai, 224 pixels": "as above, at the size of its tutorials",
}
"""By method: what the command does not say."""


@dataclass(frozen=True)
class Trained:
    """How a method is run on a folder: `words` in the folder `place`, with a seed, for some minutes."""

    options: argparse.Namespace
    folder: Path
    place: Path
    seed: int

    def photographs(self) -> dict[str, Any]:
        return self._this_program(self.options.minutes, "experiment=photographs")

    def frozen(self) -> dict[str, Any]:
        frozen = ("experiment=photographs", "transfer=frozen", *BACKBONE, f"cache.dir={self.place}")  # computed anew
        return self._this_program(self.options.frozen_minutes, *frozen)

    def finetuned(self) -> dict[str, Any]:
        finetuned = ("experiment=photographs", "transfer=finetune", BACKBONE[0], "transfer.image_size=96")
        return self._this_program(self.options.minutes, *finetuned)

    def defaults(self) -> dict[str, Any]:
        return self._this_program(self.options.minutes)

    def _this_program(self, minutes: float, *settings: str) -> dict[str, Any]:
        run, epochs = self.place / "run", self.options.epochs
        length = f"epochs={epochs}" if epochs else f"time={60 * minutes:g}s"
        data = ("data=image_folder", f"data.root={self.folder}")
        words = (*RUN, *settings, *data, length, f"seed={self.seed}", f"hydra.run.dir={run}")
        facts = self._typed(words)
        result = read_result(run)
        facts |= {key: result[key] for key in ("epochs", "seconds") if key in result}
        return facts | {"accuracy": predicted(run, self.folder / "test", self.place)}

    def ultralytics(self, size: int | None, *more: str) -> dict[str, Any]:
        command = Path(self.options.peers).parent / "yolo"
        length = f"epochs={self.options.epochs}" if self.options.epochs else f"time={self.options.minutes / 60:.4f}"
        words = [str(command), "classify", "train", "model=yolo11n-cls.yaml", f"data={self.folder}", *more, length]
        words += [f"imgsz={size}"] if size else []
        facts = self._typed([*words, f"seed={self.seed}", f"project={self.place}", "name=run", "exist_ok=True"])
        weights = self.place / "run" / "weights" / "best.pt"
        return facts | self._predicted("ultralytics_predict.py", weights, self.folder / "test", "--size", size or 224)

    def fastai(self, size: int) -> dict[str, Any]:
        length = ("--epochs", self.options.epochs) if self.options.epochs else ()
        length = ("--minutes", self.options.minutes, *length)
        file = self.place / "predictions.csv"
        words = (self.options.peers, PEERS / "fastai_run.py", self.folder, *length, "--size", size)
        facts = self._typed([str(word) for word in (*words, "--seed", self.seed, "--csv", file)])
        return facts | {"accuracy": accuracy(file, self.folder / "test")}

    def _predicted(self, script: str, *arguments: object) -> dict[str, Any]:
        file = self.place / "predictions.csv"
        words = (self.options.peers, PEERS / script, *arguments, "--csv", file)
        typed([str(word) for word in words], self.place, self._environment())
        return {"accuracy": accuracy(file, self.folder / "test")}

    def _typed(self, words: Sequence[str]) -> dict[str, Any]:
        seconds = typed(words, self.place, self._environment())
        scripts = {f"{PEERS}/": "", f"{Path(self.options.peers or sys.executable).parent}/": ""}
        return {
            "command": line(words, {str(self.folder): "DIR", str(self.place): "OUT", **scripts}),
            "wall_seconds": seconds,
        }

    def _environment(self) -> dict[str, str]:
        return {"YOLO_CONFIG_DIR": str(self.options.out.resolve()), "YOLO_OFFLINE": "true"}


METHODS = {
    "photographs": Trained.photographs,
    "photographs, frozen": Trained.frozen,
    "photographs, fine-tuned": Trained.finetuned,
    "defaults": Trained.defaults,
    "ultralytics, 64 pixels": lambda trained: trained.ultralytics(64),
    "ultralytics, 64 pixels, AdamW": lambda trained: trained.ultralytics(64, ADAMW),
    "ultralytics, default size": lambda trained: trained.ultralytics(None),
    "ultralytics, default size, AdamW": lambda trained: trained.ultralytics(None, ADAMW),
    "fastai, 64 pixels": lambda trained: trained.fastai(64),
    "fastai, 224 pixels": lambda trained: trained.fastai(224),
}
OF_PEERS = ("ultralytics", "fastai")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks photographs", description=__doc__)
    add_sets(parser)
    parser.add_argument("--images", type=int, default=10_000, help="to train and to validate on")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--frozen-minutes", type=float, default=3.0)
    parser.add_argument("--epochs", type=int, help="in place of the minutes, to try this script")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", help="the interpreter of an environment with the extra `peers`")
    parser.add_argument("--only", action="append", choices=METHODS, help="can be repeated")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args(argv)
    kept = Kept(options.out / "runs.json")
    length = f"{options.epochs}-epochs" if options.epochs else f"{options.minutes:g}m"
    names = options.only or [name for name in METHODS if options.peers or not name.startswith(OF_PEERS)]
    if not options.peers and any(name.startswith(OF_PEERS) for name in names):
        parser.error("--only: a peer needs --peers PYTHON, the interpreter of an environment with the extra `peers`")
    folders = [written(name, source, options.images, options.out / "sets") for name, source in sets(options).items()]
    for folder in folders:
        for seed in range(options.seeds):
            for method in names:
                run = f"{folder.name}/{method}/{seed}/{length}"
                place = options.out.resolve() / run.replace(", ", "-").replace(" ", "-")
                kept.get(run, partial(measured, method, Trained(options, folder, place, seed)))
    of_sets = tuple(f"{folder.name}/" for folder in folders)
    rows = {run: row for run, row in kept.results.items() if run.startswith(of_sets) and run.endswith(f"/{length}")}
    has_bf16 = "bf16" in machine()["processor"]
    name = "-".join(["photographs", str(options.images), length, *(["bf16"] if has_bf16 else [])])
    finish(name, command(options), summary(options, rows), options.keep)


def command(options: argparse.Namespace) -> str:
    values = {name: getattr(options, name) for name in ("images", "minutes", "frozen_minutes", "seeds")}
    words = [f"--{name.replace('_', '-')} {value:g}" for name, value in values.items()]
    words += [f"--only {shlex.quote(name)}" for name in options.only or []]
    words += ["--peers PYTHON"] if options.peers else []
    words += [f"--epochs {options.epochs}"] if options.epochs else []
    return f"python -m benchmarks photographs {words_of(sets(options))} {' '.join(words)}"


def measured(method: str, trained: Trained) -> dict[str, Any]:
    """What a run gives; a command that fails is a result too."""
    shutil.rmtree(trained.place, ignore_errors=True)  # a run that was stopped
    try:
        return METHODS[method](trained)
    except CommandError as error:
        return {"error": str(error)}


def summary(options: argparse.Namespace, runs: dict[str, Any]) -> dict[str, Any]:
    """Mean test accuracies by set and method, and all runs."""
    accuracies: dict[str, dict[str, list[float]]] = {}
    for name, run in runs.items():
        folder, method, *_ = name.split("/")
        values = accuracies.setdefault(folder, {}).setdefault(method, [])
        values += [run["accuracy"]] if "accuracy" in run else []
    means = {
        folder: "; ".join(
            f"{method} {statistics.mean(values):.3f} ({count_of(len(values), 'seed')})"
            for method, values in rows.items()
            if values
        )
        for folder, rows in accuracies.items()
    }
    return {
        "what": f"folders of {options.images:,} images, a fifth to validate, {options.minutes:g} minutes each (frozen:"
        f" {options.frozen_minutes:g}): mean accuracy on the test images; fastai has one more epoch, timed first",
        "figure": ". ".join(f"{folder}: {text}" for folder, text in means.items()),
        "notes": NOTES,
        "accuracies": accuracies,
        "runs": runs,
    }

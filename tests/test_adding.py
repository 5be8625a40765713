"""What adding an option costs: new files. No line of an existing file changes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from processes import copy_checkout

from cifar.results import read_metrics, read_result

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HEAD = "from __future__ import annotations\n"
OPTIMIZER = {
    "cifar/options/sign.py": """
from dataclasses import dataclass

from cifar.options.fields import within
from cifar.options.optimizer import Optimizer


@dataclass
class Sign(Optimizer):
    \"\"\"Descent along the sign of the gradient.\"\"\"

    _target_: str = "cifar.training.sign.Sign"
    shrink: float = within("(0, 1]")
""",
    "cifar/training/sign.py": """
from typing import Any

import torch


class Sign(torch.optim.Optimizer):
    def __init__(self, params: list[dict[str, Any]], lr: float, weight_decay: float, shrink: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "shrink": shrink})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad + group["weight_decay"] * parameter
                parameter.add_(gradient.sign(), alpha=-group["lr"] * group["shrink"])
""",
    "conf/optimizer/sign.yaml": """# Descent along the sign of the gradient.
# python run.py optimizer=sign
_target_: cifar.training.sign.Sign
lr: 0.001
shrink: 0.5
weight_decay: 0.0
decay_norms_and_biases: true
""",
}
SCHEDULER = {
    "cifar/options/linear.py": """
from dataclasses import dataclass

from cifar.options.fields import within
from cifar.options.scheduler import Scheduler


@dataclass
class Linear(Scheduler):
    \"\"\"Linear decay to a fraction of the learning rate.\"\"\"

    _target_: str = "cifar.training.linear.linear"
    end: float = within("[0, 1)")
""",
    "cifar/training/linear.py": """
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR

from cifar.training.schedulers import StepSchedule


def linear(optimizer: Optimizer, steps: int, end: float) -> StepSchedule:
    return StepSchedule(LinearLR(optimizer, 1.0, end, total_iters=steps))
""",
    "conf/scheduler/linear.yaml": """# Linear decay to a fraction of the learning rate.
# python run.py scheduler=linear
_target_: cifar.training.linear.linear
end: 0.1
""",
}
MODEL = {
    "cifar/options/perceptron.py": """
from dataclasses import dataclass

from cifar.options.fields import within
from cifar.options.model import Model


@dataclass
class Perceptron(Model):
    \"\"\"One hidden layer.\"\"\"

    _target_: str = "cifar.models.perceptron.Perceptron"
    hidden: int = within("[1, inf)")
""",
    "cifar/models/perceptron.py": """
from torch import nn


class Perceptron(nn.Sequential):
    def __init__(self, num_classes: int, hidden: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
""",
    "conf/model/perceptron.yaml": """# One hidden layer.
# python run.py model=perceptron model.hidden=8
_target_: cifar.models.perceptron.Perceptron
hidden: 16
""",
}
DATA = {
    "cifar/options/stripes.py": """
from dataclasses import dataclass

from cifar.options.data import Data


@dataclass
class Stripes(Data):
    \"\"\"Stripes, across or along.\"\"\"

    loader = "cifar.data.stripes.stripes"
    flip = False  # as along becomes across
    source: str = "stripes"
""",
    "cifar/data/stripes.py": """
import numpy as np

from cifar.data.images import Images, from_arrays
from cifar.data.request import Request
from cifar.options.data import Data


def stripes(option: Data, request: Request) -> Images:
    random = np.random.default_rng(request.part == "test")
    across = np.broadcast_to((np.arange(32) % 4 < 2)[:, None], (32, 32))
    labels = np.arange(60) % 2
    images = np.stack([across if label else across.T for label in labels])[..., None] * 200
    noise = random.integers(0, 50, (60, 32, 32, 3))
    return from_arrays((images + noise).astype(np.uint8), labels, ("along", "across"))
""",
    "conf/data/stripes.yaml": """# Stripes, across or along.
# python run.py data=stripes
source: stripes
root: null
limit: null
val_size: 0.2
val_seed: 0
normalize: true
mean: null
std: null
""",
}
AUGMENT = {
    "cifar/options/darker.py": """
from dataclasses import dataclass

from cifar.options.augment import Augment
from cifar.options.fields import within


@dataclass
class Darker(Augment):
    \"\"\"Each image is darkened by another amount.\"\"\"

    piece = "cifar.data.augment.darker.Darker"
    policy: str = "darker"
    least: float = within("[0, 1]")
""",
    "cifar/data/augment/darker.py": """
import torch
from torch import Tensor


class Darker:
    def __init__(self, height: int, width: int, least: float) -> None:
        self.least = least

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        return self.least + (1 - self.least) * torch.rand(count, generator=generator)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        return (images * draws.to(images.device).view(-1, 1, 1, 1)).to(torch.uint8)
""",
    "conf/augment/darker.yaml": """# Each image is darkened by another amount.
# python run.py augment=darker
policy: darker
least: 0.5
crop: null
flip: null
erase: 0.0
mixup: 0.0
cutmix: 0.0
""",
}
TRACKER = {
    "cifar/options/diary.py": """
from dataclasses import dataclass

from omegaconf import MISSING

from cifar.options.tracker import Tracker


@dataclass
class Diary(Tracker):
    \"\"\"A line of text for each epoch.\"\"\"

    _target_: str = "cifar.trackers.diary.Diary"
    name: str = MISSING
""",
    "cifar/trackers/diary.py": """
from cifar.reporting import EpochMetrics
from cifar.trackers.base import TrackedRun, Tracker


class Diary(Tracker):
    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, run: TrackedRun) -> None:
        self.path = run.directory / self.name

    def epoch(self, metrics: EpochMetrics) -> None:
        with self.path.open("a") as file:
            file.write(f"epoch {metrics.epoch}\\n")
""",
    "conf/tracker/diary.yaml": """# A line of text for each epoch.
# python run.py tracker=diary
_target_: cifar.trackers.diary.Diary
name: diary.txt
""",
}
SECTION = {
    "analysis/sections/seconds.py": """
from . import Context, Section

ORDER = 95


def section(context: Context) -> Section | None:
    if context.kind == "several":
        return None
    seconds = context.frames.epochs.seconds.sum()
    return Section("Seconds of all epochs", f"They took {seconds:.1f} seconds.")
"""
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, and beside it the files of one made-up option of each kind."""
    copy = tmp_path_factory.mktemp("checkout")
    copy_checkout(copy, "cifar/", "conf/", "analysis/", "run.py")
    for files in (OPTIMIZER, SCHEDULER, MODEL, DATA, AUGMENT, TRACKER, SECTION):
        for name, text in files.items():
            assert not (copy / name).exists(), f"{name} is there already"
            (copy / name).write_text((HEAD if name.endswith(".py") else "") + text)
    return copy


@pytest.fixture(scope="module")
def run(checkout: Path) -> Run:
    """run(*arguments): run.py of the copy, in the copy."""

    def started(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "run.py", *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300)

    return started


TINY = ["data.limit=120", "epochs=2", "device=cpu", "threads=1"]
OPTIONS = ["data=stripes", "augment=darker", "model=perceptron", "optimizer=sign", "scheduler=linear", "tracker=diary"]
SETTINGS = [
    "augment.least=0.2",
    "model.hidden=8",
    "optimizer.shrink=0.9",
    "scheduler.end=0.5",
    "tracker.name=notes.txt",
]


@pytest.fixture(scope="module")
def trained(run: Run, checkout: Path) -> Path:
    """The directory of a run with one option of each kind."""
    answer = run(*TINY, *OPTIONS, *SETTINGS, "hydra.run.dir=trained")
    assert answer.returncode == 0, answer.stderr
    return checkout / "trained"


@pytest.mark.slow
def test_a_run_uses_the_options(trained: Path) -> None:
    epochs, result = read_metrics(trained / "metrics.csv"), read_result(trained)
    assert len(epochs) == 2 and 0.0005 <= epochs[-1].lr < 0.001
    assert result["model"]["parameters"] == 3 * 32 * 32 * 8 + 8 + 8 * 2 + 2
    assert result["data"]["source"] == "stripes" and result["data"]["classes"] == 2
    assert (trained / "notes.txt").read_text() == "epoch 1\nepoch 2\n"
    config = yaml.safe_load((trained / ".hydra" / "config.yaml").read_text())
    assert config["optimizer"]["_target_"] == "cifar.training.sign.Sign" and config["optimizer"]["shrink"] == 0.9
    assert config["augment"]["least"] == 0.2 and config["augment"]["flip"] is False


RANGES = {
    "optimizer=sign optimizer.shrink=2": "a number in (0, 1]",
    "scheduler=linear scheduler.end=1": "a number in [0, 1)",
    "model=perceptron model.hidden=0": "a whole number in [1, inf)",
    "augment=darker augment.least=2": "a number in [0, 1]",
    "data=stripes data.limit=0": "a whole number in [1, inf)",
    "tracker=diary +tracker.colour=red": "name",
}
CHECK = """
import json, sys
from pathlib import Path
from hydra import compose, initialize_config_dir
import cifar.run
from cifar.options.check import check
from cifar.options.option import ConfigError

errors = []
for line in sys.argv[1:]:
    with initialize_config_dir(str(Path("conf").resolve())):
        cfg = compose("config", line.split())
    try:
        check(cfg)
    except ConfigError as error:
        errors.append(str(error))
print(json.dumps(errors))
"""


@pytest.mark.slow
def test_their_ranges_are_checked(checkout: Path) -> None:
    command = [sys.executable, "-c", CHECK, *RANGES]
    answer = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    errors = json.loads(answer.stdout)
    assert len(errors) == len(RANGES)
    for error, allowed in zip(errors, RANGES.values(), strict=True):
        assert allowed in error.partition("allowed: ")[2]


@pytest.mark.slow
def test_the_report_has_the_section(trained: Path, checkout: Path) -> None:
    command = [sys.executable, "-m", "analysis.report", "trained"]
    answer = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert "## Seconds of all epochs\n\nThey took " in (trained / "report" / "report.md").read_text()


def test_help_lists_it_with_its_keys(run: Run) -> None:
    text = run("--help", "optimizer", "scheduler", "model", "data", "augment", "tracker").stdout
    for line in (
        *(
            "Descent along the sign of the gradient.",
            "Linear decay to a fraction",
            "One hidden layer.",
            "Stripes, across",
            "Each image is darkened by",
        ),
        *("A line of text for each epoch.", "optimizer.shrink=", " a number in (0, 1]", "model.hidden=16"),
    ):
        assert line in text


def test_a_search_uses_it(run: Run, checkout: Path) -> None:
    space = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "optimizer.shrink=interval(0.1,1)"]
    options = ["data=stripes", "model=perceptron", "scheduler=linear", "optimizer=sign"]
    sweep = ["hydra.sweeper.n_trials=2", "hydra.sweep.dir=search"]
    answer = run("-m", "hydra/sweeper=optuna", *options, *TINY, *space, *sweep)
    assert answer.returncode == 0, answer.stderr
    assert "optimizer.shrink" in (checkout / "search" / "best.yaml").read_text()

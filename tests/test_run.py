"""The commands of the README, in separate processes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar.reporting import EpochMetrics
from cifar.results import read_metrics, read_result
from cifar.training import checkpoint

Answer = subprocess.CompletedProcess[str]
RunPy = Callable[..., Answer]
LONGER = ["data.limit=400", "epochs=6", "optimizer=adam", "scheduler=onecycle", "seed=3"]
"""A run long enough to be interrupted."""


def assert_refused(answer: Answer, *phrases: str) -> None:
    """Exit code not 0, one message that says it, no stack trace."""
    assert answer.returncode not in (0, None)
    assert "Traceback" not in answer.stdout + answer.stderr
    _, *errors = f"\n{answer.stderr}".split("\nerror: ")
    assert len(errors) == 1, answer.stderr
    for part in phrases:
        assert part in errors[0]


def assert_done(answer: Answer) -> None:
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr


def assert_equal_runs(one: Path, other: Path, timeless: Callable[[EpochMetrics], dict[str, Any]]) -> None:
    """The metrics but for the time columns, and the weights, bit for bit."""
    a, b = ([timeless(metrics) for metrics in read_metrics(place / "metrics.csv")] for place in (one, other))
    assert a == b and a
    for name in ("best.pt", "checkpoint.pt"):
        a, b = (checkpoint.load(place / name)["model"] for place in (one, other))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def whole(run_py: RunPy, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of LONGER that nothing interrupted."""
    place = tmp_path_factory.mktemp("whole")
    assert_done(run_py(*tiny, *LONGER, "test=true", f"hydra.run.dir={place / 'run'}"))
    return place / "run"


def test_a_run_writes_the_files_of_a_run_directory(whole: Path) -> None:
    for name in (
        "metrics.csv",
        "result.json",
        "checkpoint.pt",
        "best.pt",
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
    ):
        assert (whole / name).stat().st_size > 0
    with (whole / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    result = json.loads((whole / "result.json").read_text())
    assert result["status"] == "finished" and 0 <= result["test"]["accuracy"] <= 1


def test_equal_seeds_give_equal_runs(
    whole: Path, run_py: RunPy, tiny: list[str], tmp_path: Path, timeless: Callable[[EpochMetrics], dict[str, Any]]
) -> None:
    assert_done(run_py(*tiny, *LONGER, f"hydra.run.dir={tmp_path}"))
    assert_equal_runs(whole, tmp_path, timeless)


def interrupted(command: list[str], signum: signal.Signals, is_time: Callable[[], bool], cwd: Path) -> Answer:
    """A command that gets a signal as soon as it is time."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not is_time():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signum)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def has_epochs(place: Path, count: int) -> bool:
    return (place / "metrics.csv").exists() and len((place / "metrics.csv").read_text().splitlines()) > count


@pytest.mark.parametrize("signum, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_goes_on_to_the_same_end(
    signum: signal.Signals,
    code: int,
    whole: Path,
    run_py: RunPy,
    command: Callable[..., list[str]],
    tiny: list[str],
    tmp_path: Path,
    timeless: Callable[[EpochMetrics], dict[str, Any]],
) -> None:
    place = tmp_path / "run"
    arguments = command(*tiny, *LONGER, "test=true", f"hydra.run.dir={place}")
    stopped = interrupted(arguments, signum, lambda: has_epochs(place, 2), tmp_path)
    assert stopped.returncode == code
    assert "Traceback" not in stopped.stderr
    done = len(read_metrics(place / "metrics.csv"))
    assert 2 <= done < 6
    if signum != signal.SIGKILL:
        assert read_result(place)["status"] == "interrupted"
        assert any(f"run.py resume={place}" in line for line in stopped.stderr.splitlines())
    resumed = run_py(f"resume={place}", cwd=tmp_path)
    assert_done(resumed)
    assert read_result(place)["status"] == "finished"
    assert "epoch 1/6" not in resumed.stdout
    assert read_result(place)["test"] == read_result(whole)["test"]
    assert_equal_runs(whole, place, timeless)


def test_the_line_of_a_run_stopped_in_its_first_epoch_can_be_copied(
    run_py: RunPy, command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "run"
    arguments = command(*tiny, "data.limit=600", "batch_size=1", "epochs=1", f"hydra.run.dir={place}")
    stopped = interrupted(arguments, signal.SIGTERM, (place / "result.json").exists, tmp_path)
    assert stopped.returncode == 143
    assert read_result(place)["status"] == "interrupted" and read_result(place)["epochs_done"] == 0
    assert f"resume={place}" in stopped.stderr
    assert_done(run_py(f"resume={place}", cwd=tmp_path))
    assert read_result(place)["status"] == "finished"


def test_a_grid_makes_a_run_of_every_combination(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    assert_done(run_py("-m", *tiny, "epochs=1", "optimizer=sgd,adam", "seed=0,1", f"hydra.sweep.dir={tmp_path}"))
    runs = sorted(path.parent for path in tmp_path.glob("*/result.json"))
    assert len(runs) == 4
    assert all(read_result(place)["status"] == "finished" for place in runs)
    losses = {read_metrics(place / "metrics.csv")[0].train_loss for place in runs}
    assert len(losses) == 4, "two of them are the same run"


def test_the_recipes_run(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    recipes = "experiment=sgd_momentum_l2,adam_weight_decay"
    assert_done(run_py("-m", recipes, *tiny, "epochs=1", f"hydra.sweep.dir={tmp_path}"))
    assert [read_result(tmp_path / name)["status"] for name in "01"] == ["finished"] * 2


def test_a_folder_of_images_runs_and_its_test_part_is_read_only_on_demand(
    run_py: RunPy, tiny: list[str], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_folder(parts=("train", "test"), each=20)
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"not an image")
    folder = [*tiny, "data=image_folder", f"data.root={root}", "data.limit=null", "data.val_size=0.2", "epochs=1"]
    assert_done(run_py(*folder, f"hydra.run.dir={tmp_path / 'a'}"))
    assert read_result(tmp_path / "a")["status"] == "finished"
    answer = run_py(*folder, "test=true", f"hydra.run.dir={tmp_path / 'b'}")
    assert_refused(answer, f"{root}: 40 of 40 image files of part test cannot be read", "test/cat/0.png")
    assert not (tmp_path / "b" / "result.json").exists(), "it is found before training"


def test_help_shows_groups_options_and_three_commands_without_torch(run_py: RunPy, no_torch: dict[str, str]) -> None:
    answer = run_py("--help", **no_torch)
    assert_done(answer)
    for group, option in {"data": "image_folder", "model": "resnet26", "pruner": "median", "sampler": "tpe"}.items():
        line = next(line for line in answer.stdout.splitlines() if line.split()[:1] == [group])
        assert option in line
    assert answer.stdout.count("run.py ") >= 3


def test_help_of_a_group_and_of_none(run_py: RunPy, no_torch: dict[str, str]) -> None:
    answer = run_py("--help", "optimizer", **no_torch)
    assert_done(answer)
    assert "optimizer.momentum=0.9" in answer.stdout and "a number in [0, 1)" in answer.stdout
    assert_refused(run_py("--help", "nothing", **no_torch), "--help nothing", "optimizer, scheduler", "pruner")


@pytest.mark.parametrize(
    "override, phrases",
    [
        ("optimizer.lr=-1", ["optimizer.lr", "-1", "(0, inf)"]),
        ("optimizer.lrr=1", ["optimizer.lrr", "momentum"]),
        ("+epoch=3", ["epoch", "epochs"]),
        ("epochs=ten", ["epochs", "ten"]),
        ("optimizer=lion", ["lion", "adam", "sgd"]),
        ("optimizer=3", ["must be a string"]),
        ("device=tpu", ["device", "tpu", "auto, cpu, cuda"]),
        ("data=image_folder", ["data.root"]),
        ("data.val_size=0", ["data.val_size"]),
        ("resume=nowhere", ["resume=nowhere"]),
        ("optimizer.lr=", ["optimizer.lr"]),
        ("nonsense", ["nonsense"]),
        ("model._target_=os.system", ["os.system", "cifar.models.resnet.BottleneckResNet"]),
    ],
)
def test_a_bad_setting_is_one_error_before_torch_is_imported(
    override: str, phrases: list[str], run_py: RunPy, no_torch: dict[str, str]
) -> None:
    answer = run_py(override, **no_torch)
    assert_refused(answer, *phrases)
    assert "torch was imported" not in answer.stderr


def test_a_bad_setting_of_a_sweep_is_one_error(run_py: RunPy, no_torch: dict[str, str]) -> None:
    assert_refused(run_py("-m", "optimizer.lr=-1,-2", **no_torch), "optimizer.lr", "-1")


@pytest.mark.parametrize(
    "overrides, phrases",
    [
        (["data=image_folder", "data.root=nowhere"], ["nowhere: no such directory"]),
        (["data.limit=null", "data.val_size=5000"], ["data.val_size", "5000"]),
        (["device=cuda:99"], ["device=cuda:99"]),
        (["optimizer.lr=1e30", "precision=fp32"], ["epoch 1", "lr"]),
    ],
)
def test_what_goes_wrong_later_is_one_error(
    overrides: list[str], phrases: list[str], run_py: RunPy, tiny: list[str]
) -> None:
    assert_refused(run_py(*tiny, *overrides), *phrases)


def test_a_directory_that_cannot_be_written_is_named(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(run_py(*tiny, f"hydra.run.dir={tmp_path / 'file' / 'below'}"), str(tmp_path / "file"))
    assert_refused(run_py("-m", *tiny, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'file'}"), str(tmp_path / "file"))


def test_a_cache_that_cannot_be_written_is_named(
    run_py: RunPy, tiny: list[str], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    folder = ["data=image_folder", f"data.root={make_folder()}", f"cache.dir={tmp_path / 'file'}"]
    assert_refused(run_py(*tiny, *folder, "data.limit=null"), str(tmp_path / "file"))


def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(
    run_py: RunPy, command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: metrics.csv fits, a checkpoint does not."""
    place = tmp_path / "run"
    assert_done(run_py(*tiny, "epochs=1", f"hydra.run.dir={place}"))
    before = checkpoint.load(place / "checkpoint.pt")
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "-", *command(f"resume={place}", "epochs=2")]
    answer = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert_refused(answer, "disk is full", str(place))
    after = checkpoint.load(place / "checkpoint.pt")
    assert after["epoch"] == before["epoch"] == 1
    assert all(torch.equal(tensor, after["model"][key]) for key, tensor in before["model"].items())


class Poison:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


def test_a_poisoned_or_foreign_checkpoint_is_one_error_and_runs_nothing(
    run_py: RunPy, tiny: list[str], tmp_path: Path
) -> None:
    place, marker = tmp_path / "run", tmp_path / "marker"
    assert_done(run_py(*tiny, "epochs=1", f"hydra.run.dir={place}"))
    assert_refused(run_py(f"resume={place}", "model.width=8", cwd=tmp_path), "model.width=8: was 4", "new run")
    torch.save({"model": Poison(marker)}, place / "checkpoint.pt")
    assert_refused(run_py(f"resume={place}", cwd=tmp_path), str(place / "checkpoint.pt"))
    assert not marker.exists()


HOSTILE = {
    "callback": "+hydra.callbacks.x={_target_: os.system, command: 'touch DIR/marker'}",
    "callback by way of an allowed package": (
        "+hydra.callbacks.x="
        "{_target_: timm.models.load_state_dict, checkpoint_path: DIR/poison.pt, weights_only: false}"
    ),
    "callback by way of this project": (
        "+hydra.callbacks.x={_target_: cifar.optim.torch.load, f: DIR/poison.pt, weights_only: false}"
    ),
    "launcher": "hydra.launcher._target_=os.system +hydra.launcher.command='touch DIR/marker'",
    "sweeper": "hydra.sweeper._target_=os.system +hydra.sweeper.command='touch DIR/marker'",
    "logging": "+hydra.job_logging.handlers.x={'()': os.system, command: 'touch DIR/marker'}",
    "own logging": "+hydra.hydra_logging.handlers.x={'()': subprocess.Popen, args: [touch, DIR/marker]}",
    "model": "model={_target_: os.system, command: 'touch DIR/marker'}",
    "optimizer": 'optimizer={_target_: builtins.eval, _args_: [\'open("DIR/marker", "w")\']}',
    "scheduler": "scheduler={_target_: subprocess.Popen, args: [touch, DIR/marker]}",
}
"""Ways to have a YAML touch DIR/marker."""


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_override_runs_nothing(way: str, run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    torch.save({"state_dict": Poison(tmp_path / "marker")}, tmp_path / "poison.pt")
    hostile = HOSTILE[way].replace("DIR", str(tmp_path))
    arguments = hostile.split(" ", 1) if way in ("launcher", "sweeper") else [hostile]
    if way in ("launcher", "sweeper"):
        arguments.append("-m")
    elif way in ("model", "optimizer", "scheduler"):
        arguments = [f"~{way}", f"+{hostile}"]
    overrides = [override for override in tiny if not override.startswith("model.")] if way == "model" else tiny
    answer = run_py(*overrides, "epochs=1", *arguments, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert not (tmp_path / "marker").exists()
    assert answer.returncode != 0
    assert "Traceback" not in answer.stderr and "error: " in answer.stderr


def test_a_hostile_yaml_runs_nothing(run_py: RunPy, tiny: list[str], tmp_path: Path) -> None:
    place = tmp_path / "conf" / "experiment"
    place.mkdir(parents=True)
    hostile = f"  callbacks:\n    x:\n      _target_: os.system\n      command: touch {tmp_path}/marker\n"
    (place / "evil.yaml").write_text(f"# @package _global_\nhydra:\n{hostile}")
    answer = run_py(*tiny, "--config-dir", str(place.parent), "experiment=evil", cwd=tmp_path)
    assert not (tmp_path / "marker").exists()
    assert answer.returncode != 0

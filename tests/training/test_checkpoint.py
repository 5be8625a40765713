"""Checkpoints survive kills and full disks, and no code in them is run."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar.files import FileError
from cifar.models.resnet import BottleneckResNet
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError


def in_process(script: str, *arguments: str) -> str:
    """The output of a script that runs in a separate process, in the repository."""
    root = Path(checkpoint.__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"a": torch.randn(3), "b": {"c": [1, 2.5, "text", None, True]}}
    checkpoint.save(tmp_path / "x.pt", state)
    loaded = checkpoint.load(tmp_path / "x.pt")
    assert torch.equal(loaded["a"], state["a"]) and loaded["b"] == state["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_kill_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    script = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from cifar.training import checkpoint
path = Path(sys.argv[1])
state = lambda number: {"number": number, "weights": [torch.full((300, 300), float(number)) for _ in range(10)]}
checkpoint.save(path, state(0))
kills = 0
for attempt in range(12):
    before = path.stat().st_mtime_ns
    child = os.fork()
    if not child:
        for number in range(1, 100_000):
            checkpoint.save(path, state(number))
        os._exit(0)
    while path.stat().st_mtime_ns == before:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    loaded = checkpoint.load(path)
    assert all((weights == loaded["number"]).all() for weights in loaded["weights"]), attempt
    assert loaded["number"], attempt
print(kills, len(list(path.parent.glob(".*.tmp"))))
"""
    kills, temporary_files = map(int, in_process(script, str(tmp_path / "x.pt")).split())
    assert kills == 12
    assert temporary_files, "no kill came during a save"


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_old_checkpoint(moment: str, tmp_path: Path) -> None:
    script = f"""
import os, pathlib, signal, sys
import torch
from cifar.training import checkpoint
path = pathlib.Path(sys.argv[1])
checkpoint.save(path, {{"weights": torch.zeros(1000)}})
if not (child := os.fork()):
    die = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    os.fsync, moment = (die, None) if "{moment}" == "fsync" else (os.fsync, setattr(pathlib.Path, "replace", die))
    checkpoint.save(path, {{"weights": torch.ones(1000)}})
    os._exit(0)
assert os.waitpid(child, 0)[1] == signal.SIGKILL
print(float(checkpoint.load(path)["weights"].sum()))
"""
    assert float(in_process(script, str(tmp_path / "x.pt"))) == 0


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    checkpoint.save(path, {"a": torch.zeros(3)})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"x\.pt: the disk is full"):
        checkpoint.save(path, {"a": torch.ones(3)})
    assert torch.equal(checkpoint.load(path)["a"], torch.zeros(3))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_a_disk_that_fills_up_during_the_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files refuses a write half-way, within torch.save."""
    script = """
import os, resource, sys
from pathlib import Path
import torch
from cifar.training import checkpoint
from cifar.files import FileError
path = Path(sys.argv[1])
checkpoint.save(path, {"weights": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    checkpoint.save(path, {"weights": torch.ones(1_000_000)})
except FileError as error:
    print("FileError:", error)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
print(os.listdir(path.parent), float(checkpoint.load(path)["weights"].sum()))
"""
    message, files = in_process(script, str(tmp_path / "x.pt")).splitlines()
    assert files == "['x.pt'] 0.0"
    assert message.startswith("FileError:") and "the disk is full" in message


class Poison:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_poisoned_checkpoint_is_not_executed(form: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "x.pt", tmp_path / "marker"
    state = {"model": Poison(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match=r"x\.pt: not a checkpoint that can be loaded safely"):
        checkpoint.load(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes()) if form == "pickle" else torch.load(path, weights_only=False)
    assert marker.exists(), "the poison is harmless"


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    checkpoint.save(path, {"a": torch.zeros(1000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(CheckpointError, match=r"x\.pt: ") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("epoch,loss\n1,2\n")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("text.pt", "list.pt", "missing.pt", "."):
        with pytest.raises(CheckpointError, match=str(tmp_path)):
            checkpoint.load(tmp_path / name)


@pytest.mark.parametrize(
    "depths, width, classes, name",
    [
        ([1, 1], 8, 10, r"bn1\.bias"),
        ([1, 2], 4, 10, r"layer2\.1\.bn1\.bias"),
        ([1], 4, 10, r"fc\.weight"),
        ([1, 1], 4, 3, r"fc\.bias is \(3,\) in the file and \(10,\) in this model"),
    ],
)
def test_the_weights_of_another_model_are_refused_by_name(
    depths: list[int], width: int, classes: int, name: str, tmp_path: Path
) -> None:
    model, path = BottleneckResNet([1, 1], width=4), tmp_path / "x.pt"
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    other = BottleneckResNet(depths, width=width, num_classes=classes).state_dict()
    with pytest.raises(CheckpointError, match=rf"x\.pt: holds the weights of another model: {name}"):
        checkpoint.load_weights(model, other, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_weights_that_fit_are_put_in(tmp_path: Path) -> None:
    one, other = (BottleneckResNet([1, 1], width=4) for _ in range(2))
    checkpoint.load_weights(one, other.state_dict(), tmp_path)
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())


def test_the_random_state_goes_through_a_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x.pt", checkpoint.random_state())
    expected = torch.rand(5)
    torch.manual_seed(77)
    checkpoint.set_random_state(checkpoint.load(tmp_path / "x.pt"))
    assert torch.equal(torch.rand(5), expected)

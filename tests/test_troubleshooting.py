"""docs/troubleshooting.md: each message is the one that the program prints, word for word."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from documents import ROOT, Command, sessions

from cifar import run

TINY = ["data.limit=120", "model.depths=[1,1]", "epochs=1", "device=cpu", "threads=1"]
"""What makes the command of a page quick, and changes no message."""
SHOWN = [command for command in sessions() if command.output and command.output[0].startswith(("error: ", "bash: "))]
QUICK = [command for command in SHOWN if not command.mark]
NAMES = [f"{command.page.stem}:{command.line}" for command in QUICK]


def printed(*arguments: str) -> str:
    """What a start in this process ends with; with the command as a reader types it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        patch.setattr(sys, "argv", [str(ROOT / "run.py"), "--config-path", str(ROOT / "conf"), *arguments])
        run.command_line()
    os.environ.pop("HYDRA_FULL_ERROR", None)
    return re.sub(r"[^\s(]*python\S* \S*run\.py", "python run.py", str(ended.value.code))


@pytest.fixture
def directory(make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what goes wrong on the page."""
    make_folder("DIR", each=8)
    shutil.copytree(tmp_path / "DIR" / "train", tmp_path / "photos")
    for name in ("rare", "flowers"):
        shutil.copytree(tmp_path / "DIR", tmp_path / name)
    (tmp_path / "rare" / "train" / "fox").mkdir()
    shutil.copy(tmp_path / "DIR" / "train" / "cat" / "0.png", tmp_path / "rare" / "train" / "fox")
    broken = tmp_path / "DIR" / "train" / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:500])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", QUICK, ids=NAMES)
def test_a_message_is_the_one_that_is_printed(command: Command, directory: Path) -> None:
    words = list(command.words[2:])
    if command.output[0].startswith("bash: "):
        environment = os.environ | {"LC_ALL": "C"}
        done = subprocess.run(["bash", "-c", command.text], capture_output=True, text=True, env=environment)
        assert done.stderr.splitlines()[0] == command.output[0]
        return
    if "device=cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    prepare(words)
    tiny = TINY if "optimizer.lr=1e30" in words else []
    assert printed(*words, *tiny) == command.output[0]


def prepare(words: list[str]) -> None:
    """The run or the study that the command meets."""
    if any("outputs/DATE/TIME" in word for word in words):
        start("data=digits", "model.width=16", "hydra.run.dir=outputs/DATE/TIME")
    if "from_study=sweeps/nowhere" in words:
        Path("sweeps/NAME").mkdir(parents=True)
        Path("sweeps/NAME/best.yaml").touch()


def start(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(ROOT / "run.py"), "--config-path", str(ROOT / "conf"), *arguments, *TINY])
        run.start()


@pytest.mark.parametrize("command", [command for command in SHOWN if command.mark], ids=lambda each: str(each.line))
def test_a_message_that_is_not_provoked_is_in_the_program(command: Command) -> None:
    """Exactly one text of the program is it; where that has few words, the comment names its file."""
    message = command.output[0].removeprefix("error: ")
    file = re.search(r"[\w/]+\.py", command.mark)
    texts = patterns([ROOT / file[0]], 1) if file else patterns([*(ROOT / "cifar").rglob("*.py"), ROOT / "run.py"], 3)
    assert len([pattern for pattern in texts if re.fullmatch(pattern, message)]) == 1, message


def patterns(files: Iterable[Path], least: int) -> set[str]:
    """The texts in files that have so many words, as patterns: what is filled in may be anything."""
    texts = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                words = re.findall(r"[a-z]+", " ".join(str(part) for part in parts if part), re.IGNORECASE)
                if len([word for word in words if word != "allowed"]) >= least:
                    texts.add("".join(".*" if part is None else re.escape(str(part)) for part in parts))
    return texts


def test_the_page_has_about_twenty_errors() -> None:
    assert 18 <= len([command for command in SHOWN if command.page.stem == "troubleshooting"]) <= 25

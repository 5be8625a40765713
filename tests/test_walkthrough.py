"""The commands of the README, from photographs to predictions, and the Python of the pages; all run for real."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import ROOT, Command, blocks, commands

from cifar import run

PHOTOS = ["data.val_size=0.2", "model.width=4", "epochs=1", "device=cpu", "threads=1"]
SMALL = {
    "test=true": [*PHOTOS, "hydra.run.dir=outputs/DATE/TIME"],
    "hydra/sweeper=optuna": [*PHOTOS, "hydra.sweeper.n_trials=2"],
    "hydra/sweeper=confirm": ["hydra.sweeper.top=1", "hydra.sweeper.seeds=1"],
}
"""What makes a command of the README quick."""


def commands_for_photographs() -> list[Command]:
    """The commands of the README for photographs: one that trains, a look, and four of a search."""
    typed = [command for command in commands(ROOT / "README.md") if command.words[0] == "python"]
    first = next(number for number, command in enumerate(typed) if "data.root=DIR" in command.words)
    return typed[first : first + 6]


def run_it(words: tuple[str, ...]) -> None:
    """Run python run.py or python -m MODULE in this process. Raises AssertionError for an exit code that is not 0."""
    try:
        if words[1] == "run.py":
            more = [setting for word, settings in SMALL.items() if word in words for setting in settings]
            sys.argv[1:] = ["--config-path", str(ROOT / "conf"), *words[2:], *more]
            run.start()
        else:
            package = importlib.import_module(words[2])
            module = package if hasattr(package, "main") else importlib.import_module(f"{words[2]}.__main__")
            module.main(list(words[3:]))
    except SystemExit as ended:
        assert not ended.code, ended.code


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "run.py")])
    return tmp_path


@pytest.mark.slow
def test_photographs_become_a_model_in_one_command_and_by_a_search_in_four(
    here: Path, make_folder: Callable[..., Path]
) -> None:
    make_folder("DIR", parts=("train", "test"), each=10)
    (here / "DIR" / "new").mkdir()
    (here / "DIR" / "test" / "cat" / "0.png").rename(here / "DIR" / "new" / "0.png")
    train, look, search, confirm, export, predict = commands_for_photographs()
    run_it(train.words)
    assert (here / "outputs" / "DATE" / "TIME" / "best.pt").exists()
    run_it(look.words)
    assert (here / "inspection" / "index.html").exists()
    run_it(search.words)
    assert (here / "sweeps" / "photos" / "best.yaml").exists()
    run_it(confirm.words)
    assert (here / "sweeps" / "photos" / "confirmed.yaml").exists()
    run_it(export.words)
    assert (here / "photos-model" / "model.onnx").exists()
    run_it(predict.words)


@pytest.mark.parametrize("page, word", [("report.md", "importance"), ("use.md", "load_model")])
def test_the_python_of_a_page_runs(
    page: str, word: str, here: Path, searched: Path, make_folder: Callable[..., Path]
) -> None:
    (here / "sweeps").mkdir()
    (here / "sweeps" / "NAME").symlink_to(searched / "search")
    (make_folder(suffix="jpg") / "train" / "cat" / "0.jpg").rename(here / "photo.jpg")
    (code,) = [
        block.text for block in blocks(ROOT / "docs" / page) if block.language == "python" and word in block.text
    ]
    names: dict[str, object] = {}
    exec(code, names)
    assert {"report.md": "evidence", "use.md": "images"}[page] in names

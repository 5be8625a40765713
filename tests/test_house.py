"""The rules of the house hold, and each of them notices what breaks it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import house
import pytest

Plant = Callable[[str, str], Path]


@pytest.mark.parametrize("name", house.RULES)
def test_the_rule_holds(name: str) -> None:
    violations = sorted(house.RULES[name](), key=str)
    assert not violations, "\n".join(["", *map(str, violations)])


def test_functions_are_short() -> None:
    lengths = house.function_lengths()
    assert len(lengths) > 300
    assert statistics.median(lengths) <= house.MAX_MEDIAN_LINES


def test_every_room_that_is_listed_exists(root: Path) -> None:
    rooms = {house.room(house.module_of(path)) for path in house.code()} - {None}
    assert rooms == set(house.ORDER)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """plant(path, text): write a file into an otherwise empty repository, in which the rules then look."""
    monkeypatch.setattr(house, "ROOT", tmp_path)
    (tmp_path / "run.py").touch()

    def write(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return Path(path)

    return write


def lines(name: str) -> list[int]:
    """The lines of the violations of a rule."""
    return sorted(violation.line for violation in house.RULES[name]())


def test_long_files_are_noticed(plant: Plant) -> None:
    plant("cifar/data/short.py", "x = 1\n" * 350)
    assert lines("files over 350 lines") == []
    plant("benchmarks/long.py", "x = 1\n" * 351)
    assert lines("files over 350 lines") == [351]


@pytest.mark.parametrize("folder", ["cifar", "tests"])
def test_long_functions_are_noticed(folder: str, plant: Plant) -> None:
    plant(f"{folder}/data/short.py", "def f():\n" + "    x = 1\n" * 49)
    assert lines("functions over 50 lines") == []
    plant(f"{folder}/data/long.py", "\nclass A:\n    def f(self):\n" + "        x = 1\n" * 50)
    assert lines("functions over 50 lines") == [3]


@pytest.mark.parametrize(
    "path, statement",
    [
        ("cifar/data/folder.py", "from cifar.training import optim"),
        ("cifar/data/folder.py", "from ..training import optim"),
        ("cifar/data/folder.py", "from cifar import training"),
        ("cifar/data/folder.py", "import cifar.training.optim"),
        ("cifar/data/folder.py", "def f():\n    import cifar.training"),
        ("cifar/data/folder.py", "import analysis.frames"),
        ("cifar/results.py", "import cifar.options.model"),
        ("cifar/experiment.py", "from cifar.sweep import worker"),
        ("cifar/sweep/worker.py", "from cifar import results"),
        ("analysis/frames.py", "from cifar.options.config import Config"),
        ("analysis/frames.py", "from cifar.sweep import worker"),
        ("cifar/search.py", "from cifar.training import optim"),
        ("cifar/search.py", "import analysis.summary"),
        ("cifar/nowhere.py", ""),
        ("cifar/data/folder.py", "import run"),
    ],
)
def test_imports_from_above_are_noticed(path: str, statement: str, plant: Plant) -> None:
    plant(path, statement)
    assert len(lines("imports from above")) == 1


@pytest.mark.parametrize(
    "path, statement",
    [
        ("cifar/training/trainer.py", "from cifar.data import images"),
        ("cifar/training/trainer.py", "from . import step\nfrom ..data import images"),
        ("cifar/search.py", "from cifar.sweep import plugin\ndef end():\n    import analysis.summary"),
        ("analysis/frames.py", "from cifar.sweep import storage\nfrom cifar.sweep.storage import open_study"),
        ("analysis/frames.py", "from . import summary\nimport pandas"),
        ("run.py", "from cifar import experiment\nimport analysis.summary"),
        ("benchmarks/cpu.py", "import run\nfrom cifar.training import step"),
    ],
)
def test_imports_from_below_are_allowed(path: str, statement: str, plant: Plant) -> None:
    plant(path, statement)
    assert lines("imports from above") == []


@pytest.mark.parametrize(
    "statement",
    [
        "from hydra._internal.utils import create_config_search_path",
        "from optuna.trial import _frozen",
        "import hydra_plugins.hydra_optuna_sweeper._impl",
        "trial._trial_id",
        "study.trial._suggest('x')",
        "job._return_value = 1",
        "optuna.storages._cached_storage",
        "getattr(study, '_storage')",
    ],
)
def test_private_names_are_noticed(statement: str, plant: Plant) -> None:
    for place in ("cifar/sweep/worker.py", "run.py", "tests/sweep/test_worker.py"):
        file = plant(place, f"import optuna\n\n{statement}\n")
        assert [(each.path, each.line) for each in house.RULES["private names of Optuna and Hydra"]()] == [(file, 3)]
        plant(place, "")
    plant("cifar/sweep/optuna_private.py", f"import optuna\n\n{statement}\n")
    assert lines("private names of Optuna and Hydra") == []


@pytest.mark.parametrize(
    "statement",
    [
        "class A:\n    def __init__(self):\n        self._x = 1\n    def f(self, other):\n        return other._x",
        "instantiate(settings, _execution_whitelist_=())\nsettings._target_",
        "import torch\ntorch.cpu._is_avx512_bf16_supported()",
        "x.__dict__\nnumbers._replace(a=1)",
    ],
)
def test_other_names_are_allowed(statement: str, plant: Plant) -> None:
    plant("cifar/training/step.py", f"import optuna\n{statement}\n")
    assert lines("private names of Optuna and Hydra") == []


@pytest.mark.parametrize(
    "path, text",
    [
        ("cifar/data/folder.py", '"""It goes on."""'),
        ("conf/model/resnet14.yaml", "# The search\n# goes\n#   on"),
        ("README.md", "\na run hears\nof the end"),
        ("docs/train.md", "It goes on."),
        ("benchmarks/cpu.py", "found = 1"),
        ("cifar/data/folder.py", "def f(own): pass"),
        ("cifar/data/folder.py", "class A:\n    def f(self):\n        self.told = 1"),
        ("cifar/data/folder.py", "class Parts: pass"),
        ("tests/test_sweep.py", "for said in range(3): pass"),
    ],
)
def test_quaint_words_are_noticed(path: str, text: str, plant: Plant) -> None:
    plant(path, text)
    assert len(lines("quaint words")) == 1


def test_plain_words_are_allowed(plant: Plant) -> None:
    plant("cifar/data/folder.py", '"""The run resumes; a known problem."""\nsettings = model.fit(known=1)')
    assert lines("quaint words") == []


def test_the_command_prints_the_violations(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    plant("cifar/errors.py", "def f():\n    pass\n")
    assert house.main() == 0
    assert "1 functions: median 2 lines" in capsys.readouterr().out
    plant("cifar/files.py", "import cifar.results\n")
    assert house.main() == 1
    assert "cifar/files.py:1: files imports cifar.results, which is not below it" in capsys.readouterr().out

"""What the person who starts the program trusts, in its processes, and in no file."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cifar import trust
from cifar.errors import UserError

SHOW = "from cifar import trust; print(*trust.trusted())"


def python(code: str, root: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in (trust.MODULES, trust.DIRECTORY)}
    environment |= {"PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def started() -> Iterator[Callable[[str], ModuleType]]:
    """started(modules): the module as it is in a process whose variable CIFAR_TRUST names these modules."""
    with pytest.MonkeyPatch.context() as patch:

        def reloaded(modules: str) -> ModuleType:
            patch.setattr(sys, "path", list(sys.path))
            patch.delenv(trust.DIRECTORY, raising=False)
            patch.setenv(trust.MODULES, modules)
            importlib.reload(trust)
            return trust

        yield reloaded
    importlib.reload(trust)


def test_nothing_is_trusted_by_default(started: Callable[[str], ModuleType]) -> None:
    assert started("").trusted() == ()


def test_the_variable_names_modules(started: Callable[[str], ModuleType]) -> None:
    patterns = started("my_module, other.part,,my_module").trusted()
    assert patterns == ("my_module", "my_module.*", "other.part", "other.part.*")


@pytest.mark.parametrize("name", ["*", "my_module.*", "a b", "../a", "a..b", "1a"])
def test_what_is_no_module_is_refused(name: str, started: Callable[[str], ModuleType]) -> None:
    module = started(name)
    with pytest.raises(UserError) as raised:
        module.trusted()
    assert f"trust={name}: not the name of a module" in str(raised.value)


def test_processes_inherit_it_and_import_from_the_directory_of_the_start(root: Path, tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text("ANSWER = 42\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    child = f"{SHOW}; import my_module; print(my_module.ANSWER)"
    code = (
        "import subprocess, sys; from cifar import trust; trust.grant(['my_module'])\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], cwd={str(elsewhere)!r}, check=True)"
    )
    done = python(code, root, tmp_path)
    assert done.stdout.split() == ["my_module", "my_module.*", "42"], done.stderr


def test_the_environment_of_a_job_grants_nothing(
    started: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As hydra.job.env_set in a file would set it, once the program runs."""
    module = started("")
    monkeypatch.setenv(trust.MODULES, "os")
    assert module.trusted() == ()

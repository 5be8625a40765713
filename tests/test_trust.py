"""What the person who starts the program trusts, in its processes, and in no file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar.trust import DIRECTORY, MODULES

SHOW = "from cifar import trust; print(*trust.trusted())"


def python(code: str, root: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in (MODULES, DIRECTORY)}
    environment |= {"PYTHONPATH": str(root)} | env
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


def test_nothing_is_trusted_by_default(root: Path, tmp_path: Path) -> None:
    assert python(SHOW, root, tmp_path).stdout == "\n"


def test_the_variable_names_modules(root: Path, tmp_path: Path) -> None:
    done = python(SHOW, root, tmp_path, CIFAR_TRUST="my_module, other.part,,my_module")
    assert done.stdout.split() == ["my_module", "my_module.*", "other.part", "other.part.*"]


@pytest.mark.parametrize("name", ["*", "my_module.*", "a b", "../a", "a..b", "1a"])
def test_what_is_no_module_is_refused(name: str, root: Path, tmp_path: Path) -> None:
    done = python(SHOW, root, tmp_path, CIFAR_TRUST=name)
    assert f"TrustError: trust={name}: not the name of a module" in done.stderr


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


def test_the_environment_of_a_job_grants_nothing(root: Path, tmp_path: Path) -> None:
    """As hydra.job.env_set in a file would set it, once the program runs."""
    code = "from cifar import trust; import os; os.environ['CIFAR_TRUST'] = 'os'; print(*trust.trusted())"
    assert python(code, root, tmp_path).stdout == "\n"

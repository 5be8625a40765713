"""The sweeper is one for any app: what it imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import house
import pytest

FILES = sorted((Path(__file__).parents[2] / "cifar" / "sweep").glob("*.py"))
ALLOWED = (*house.ONLY["sweep"], "cifar.sweep")


def imports(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_sweeper_knows_nothing_of_the_app(path: Path) -> None:
    names = imports(ast.parse(path.read_text("utf-8")))
    assert not {name for name in names if name.split(".")[0] in ("analysis", "run", "benchmarks", "torch")}
    assert all(name.startswith(ALLOWED) for name in names if name.startswith("cifar"))


@pytest.mark.parametrize("module", ["run", "cifar.search", "cifar.sweep.plugin"])
def test_a_start_without_a_search_imports_no_optuna(module: str, root: Path) -> None:
    heavy = ("optuna", "torch", "pandas", "scipy", "sqlalchemy")
    code = f"import {module}, sys; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

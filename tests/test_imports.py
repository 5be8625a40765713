"""Imports point downwards only, and what starts fast imports no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

KNOWS: dict[str, set[str]] = {
    "files": set(),
    "cache": set(),
    "config": set(),
    "resnet": set(),
    "optim": set(),
    "isolation": set(),
    "data": {"files"},
    "checkpoint": {"files"},
    "results": {"files"},
    "tracker": {"files", "results"},
    "loader": {"files", "data"},
    "transfer": {"files", "data", "resnet"},
    "step": {"optim"},
    "trainer": {"loader", "step", "checkpoint", "optim", "results"},
    "sweep": {"config", "results", "files", "sweep", "analysis"},
    "analysis": {"results", "files", "analysis"},
    "experiment": {
        *("files", "config", "resnet", "optim", "data", "checkpoint", "results", "loader", "transfer"),
        *("isolation", "step", "trainer", "tracker"),
    },
}
"""What each part may import of this project."""
NO_TORCH = ("cache", "files", "config", "results", "sweep", "analysis")
HEAVY = {"torch", "torchvision", "timm", "safetensors"}
TRACKERS = {"tensorboard", "google", "mlflow", "wandb", "filelock"}


def imported(path: Path, package: str) -> set[str]:
    """Full names of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def part_of(name: str) -> str | None:
    """The part of this project that a module belongs to, or None."""
    words = name.split(".")
    if words[0] == "cifar" and len(words) > 1:
        return words[1]
    return words[0] if words[0] in ("analysis", "benchmarks", "run") else None


def sources(root: Path) -> dict[Path, str]:
    """Every source file of cifar and analysis, and its package."""
    files = [path for folder in ("cifar", "analysis") for path in sorted((root / folder).rglob("*.py"))]
    return {path: ".".join(path.relative_to(root).parent.parts) for path in files}


def own_part(path: Path, root: Path) -> str | None:
    words = path.relative_to(root).with_suffix("").parts
    return "analysis" if words[0] == "analysis" else (words[1] if words[1] != "__init__" else None)


def test_the_files_are_found(root: Path) -> None:
    parts = {own_part(path, root) for path in sources(root)}
    assert {"config", "data", "loader", "resnet", "optim", "step", "trainer", "results", "experiment"} <= parts


def test_imports_point_downwards(root: Path) -> None:
    checked = 0
    for path, package in sources(root).items():
        part = own_part(path, root)
        if part is None:
            assert not imported(path, package), f"{path}: a package's own file imports nothing"
            continue
        assert part in KNOWS, f"{path}: say in KNOWS what it may import"
        known = {part_of(name) for name in imported(path, package)} - {None}
        assert known <= KNOWS[part], f"{path} imports {known - KNOWS[part]}"
        checked += bool(known)
    assert checked >= 5, "the imports between the parts were not seen"


def test_the_fast_parts_import_no_torch(root: Path) -> None:
    for path, package in sources(root).items():
        if own_part(path, root) in NO_TORCH:
            heavy = {name.split(".")[0] for name in imported(path, package)} & HEAVY
            assert not heavy, f"{path} imports {heavy}"


def test_only_the_experiment_reads_a_config(root: Path) -> None:
    for path, package in sources(root).items():
        if own_part(path, root) not in (None, "config", "experiment", "sweep"):
            names = {name.split(".")[0] for name in imported(path, package)}
            assert not names & {"hydra", "omegaconf"}, f"{path} imports {names & {'hydra', 'omegaconf'}}"


def test_a_tracker_that_is_not_chosen_loads_nothing(root: Path) -> None:
    code = "import sys; before = set(sys.modules); import cifar.tracker; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "cifar.tracker" in done.stdout.split()
    assert not {name.split(".")[0] for name in done.stdout.split()} & (HEAVY | TRACKERS)


@pytest.mark.parametrize("module", ["run", "cifar.options.config", "cifar.results"])
def test_the_start_loads_no_torch(module: str, root: Path) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=300).returncode == 0

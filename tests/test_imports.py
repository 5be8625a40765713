"""What starts fast imports no torch, a config is read in few places, and trackers load their packages late."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import house

NO_TORCH = {
    *("errors", "layout", "cores", "trust", "endings", "commands", "packages", "config_dir"),
    *("overrides", "files"),
    *("signals", "reporting"),
    *("formatting", "intervals", "objective", "calibration", "results", "content", "options"),
    *("cache", "html", "sweep", "search", "analysis", "run", "console"),
}
"""The rooms that import no torch, not even inside a function."""
READ_CONFIGS = {"overrides", "options", "tasks", "experiment", "compose", "sweep", "search", "run", "benchmarks"}
"""The rooms that may import Hydra and OmegaConf."""
INSTANTIATE = {"hydra.utils.instantiate", "hydra.errors.InstantiationException"}
"""What the other rooms may import of Hydra, to call what a `_target_` names."""
TORCH = {"torch", "torchvision", "timm", "safetensors"}
TRACKERS = {"tensorboard", "google", "mlflow", "wandb", "filelock"}


def packages(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {each.module.split(".")[0] for each in house.imports(path)}


def room_of(path: Path) -> str | None:
    return house.room(house.module_of(path))


def loaded_by(modules: Iterable[str], root: Path) -> set[str]:
    """The names of the modules that importing `modules` loads."""
    code = f"import sys; before = set(sys.modules); import {', '.join(modules)}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert names.issuperset(modules)
    return names


def test_the_fast_rooms_import_no_torch() -> None:
    for path in house.code():
        if room_of(path) in NO_TORCH:
            assert not packages(path) & TORCH, f"{path} imports {packages(path) & TORCH}"


def test_few_rooms_read_a_config() -> None:
    for path in house.code():
        if room_of(path) not in READ_CONFIGS:
            modules = {each.module for each in house.imports(path)}
            readers = {module for module in modules if module.split(".")[0] in ("hydra", "omegaconf")}
            assert readers <= INSTANTIATE, f"{path} imports {readers - INSTANTIATE}"


def test_a_tracker_that_is_not_chosen_loads_nothing(root: Path) -> None:
    modules = list(map(house.module_of, house.files("cifar/trackers")))
    assert len(modules) > 3
    loaded = {name.split(".")[0] for name in loaded_by(modules, root)}
    assert not loaded & (TORCH | TRACKERS)


def test_the_start_loads_no_torch(root: Path) -> None:
    of_cifar = ("cifar.run", "cifar.console", "cifar.options", "cifar.results", "cifar.sweep.plugin")
    assert "torch" not in loaded_by([*of_cifar, "analysis.summary"], root)


def test_using_a_model_loads_nothing_of_reports(root: Path) -> None:
    modules = ("cifar.exporting.bundle", "cifar.serve.app", "cifar.inference.evaluation")
    loaded = {name.split(".")[0] for name in loaded_by(modules, root)}
    assert not loaded & {"plotly", "matplotlib", "nbformat"}, "they are another extra"

"""Runs that are exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cifar.experiment import run
from cifar.options.check import check
from cifar.reporting import NO_REPORTER

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def train(compose: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Train:
    """train(*overrides): the directory of a tiny run, with the record of its settings."""

    def trained(*overrides: str) -> Path:
        names_model = any(line.startswith(("transfer=", "model=")) for line in overrides)
        general = [line for line in tiny if not (names_model and line.startswith("model."))]
        folder = tmp_path_factory.mktemp("run")
        cfg = compose(*general, f"cache.dir={folder / 'cache'}", *overrides)
        files = {"config.yaml": OmegaConf.to_yaml(cfg), "overrides.yaml": OmegaConf.to_yaml([*general, *overrides])}
        run(check(cfg), str(folder), NO_REPORTER, settings=files)
        return folder

    return trained


@pytest.fixture(scope="session")
def trained(train: Train) -> Path:
    return train("optimizer.lr=0.05", "test=true")

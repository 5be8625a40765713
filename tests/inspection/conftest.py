"""A folder of images with planted faults, and what an inspection of it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import keys, plant, state

from cifar.inspection.__main__ import main


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted") / "images"
    plant(root)
    return root


@pytest.fixture(scope="session")
def out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the inspection of the folder was written, which did not change it."""
    place = tmp_path_factory.mktemp("out")
    before = state(folder)
    main(keys(folder, place))
    assert state(folder) == before
    return place

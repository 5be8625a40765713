"""The settings and the images of a run that is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from cifar.compose import composed, recorded_config, recorded_splits
from cifar.experiment import load_splits
from cifar.options.check import check
from cifar.options.option import ConfigError


def test_a_run_has_the_settings_and_the_images_that_it_recorded(compose: Any, tiny: list[str], tmp_path: Path) -> None:
    cfg = compose(*tiny, "optimizer=adam", "tracker=tensorboard", "cache.dir=/elsewhere")
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(cfg, tmp_path / ".hydra" / "config.yaml")
    config = recorded_config(tmp_path)
    assert config.optimizer == check(cfg).optimizer and config.data == check(cfg).data
    assert config.cache == composed().cache and config.tracker == composed().tracker
    assert torch.equal(recorded_splits(tmp_path).val.images[:], load_splits(check(cfg)).val.images[:])


@pytest.mark.parametrize("text", ["", "data: {source: nowhere}", "optimizer: {lr: x}"])
def test_a_record_that_is_not_allowed_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        recorded_config(tmp_path)

"""The user's folder of config files, given by --config-dir, is used again by what is printed for the run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from analysis.pages.base import command_of
from cifar import config_dir
from cifar.layout import CONF
from cifar.options import user_conf
from cifar.options.command_line import Earlier, prepared
from cifar.options.hydra_private import Composition
from cifar.options.option import ConfigError

OWN = """
_target_: torch.optim.SGD
lr: 0.003
momentum: 0.5
nesterov: false
weight_decay: 0.0
decay_norms_and_biases: true
"""
Compose = Callable[..., DictConfig]


def loader_of(*folders: Path) -> Any:
    sources = [SimpleNamespace(provider=config_dir.PROVIDER, path=str(folder)) for folder in folders]
    return SimpleNamespace(get_sources=lambda: [SimpleNamespace(provider="main", path=str(CONF)), *sources])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with an option of the user: optimizer=calm."""
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "calm.yaml").write_text(OWN)
    return tmp_path / "mine"


@pytest.fixture
def study(mine: Path, tmp_path: Path) -> Path:
    """A study whose best trial, in s/0, used the option."""
    run = tmp_path / "s" / "0"
    (run / ".hydra").mkdir(parents=True)
    sources = [{"path": str(CONF), "provider": "main"}, {"path": str(mine), "provider": config_dir.PROVIDER}]
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}}))
    lines = ["data=digits", "optimizer=calm"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(lines))
    (run.parent / "best.yaml").write_text(yaml.safe_dump({"overrides": lines, "folder": "/elsewhere/s/0"}))
    return run.parent


@pytest.mark.parametrize("way", ["resume={}/0", "from_study={}"])
def test_a_run_or_a_study_uses_its_folder(
    way: str, study: Path, mine: Path, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    with prepared():
        assert compose(way.format(study)).optimizer.lr == 0.003
    assert f"as it was started: --config-dir {mine}" in capsys.readouterr().err


def test_a_confirmation_uses_the_folder_of_its_search(study: Path, mine: Path, compose: Compose) -> None:
    added: list[str] = []
    loader = loader_of()
    loader.get_search_path = lambda: SimpleNamespace(prepend=lambda provider, path, anchor: added.append(path))
    loader.repository = SimpleNamespace(initialize_sources=lambda search_path: None)
    config = OmegaConf.create({"hydra": {"sweeper": {"study": str(study)}}})
    start = Composition(config, [], RunMode.MULTIRUN, True, loader)
    assert Earlier().extend(start) == [] and added == [f"file://{mine}"]


def test_a_folder_that_is_given_wins_and_one_that_is_gone_is_named(
    study: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user_conf.add_recorded_folder(loader_of(tmp_path), study / "0")
    assert capsys.readouterr().err == ""
    mine.rename(tmp_path / "moved")
    user_conf.add_recorded_folder(loader_of(), study / "0")
    assert f"--config-dir {mine}, which is not there" in capsys.readouterr().err


def test_a_file_that_hydra_would_ignore_is_refused(mine: Path) -> None:
    user_conf.check_names(loader_of())
    same = mine / "optimizer" / "sgd.yaml"
    same.write_bytes((CONF / "optimizer" / "sgd.yaml").read_bytes())
    user_conf.check_names(loader_of(mine))
    same.write_text(OWN)
    with pytest.raises(ConfigError, match=r"sgd.yaml: without effect.*optimizer/sgd already.*optimizer/my_sgd.yaml"):
        user_conf.check_names(loader_of(mine))


def test_a_printed_command_of_settings_names_the_folder(study: Path, mine: Path, tmp_path: Path) -> None:
    words = shlex.split(command_of(str(study / "0")))
    assert words[2:] == ["--config-dir", str(mine), "data=digits", "optimizer=calm"]
    assert config_dir.option(tmp_path) == []
    (study / "0" / ".hydra" / "hydra.yaml").write_text("[1]")
    assert config_dir.option(study / "0") == []

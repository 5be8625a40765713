"""Settings files that are edited while a search runs, between two starts, and before a confirmation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
APP = """
from pathlib import Path

import hydra

from cifar.sweep import plugin
from cifar.sweep.app import SearchedApp

plugin.register(SearchedApp(seed_key="seed"))


@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    if cfg.edits:
        for path in Path("conf", "shape").glob("*.yaml"):
            path.write_text("width: 99\\n")
    return float(cfg.x) * cfg.shape.width


if __name__ == "__main__":
    main()
"""
SEARCH = ("x=interval(1,2)", "hydra.sweeper.n_trials=4", "hydra.sweeper.heartbeat=0.2", "hydra.sweep.dir=study")
App = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def app(tmp_path: Path) -> App:
    """app(*overrides): searches an app in tmp_path whose trials, with edits=true, edit its settings files."""
    (tmp_path / "app.py").write_text(APP)
    shapes = tmp_path / "conf" / "shape"
    shapes.mkdir(parents=True)
    (tmp_path / "conf" / "config.yaml").write_text(
        "defaults: [_self_, {shape: round}]\nx: 1\nseed: 0\nedits: false\nhydra: {output_subdir: .hydra}\n"
    )
    for number, name in enumerate(("round", "flat"), 1):
        (shapes / f"{name}.yaml").write_text(f"width: {number}\nheight: ${{x}}\n")

    def searched(*overrides: str, sweeper: str = "optuna") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "app.py", "-m", f"hydra/sweeper={sweeper}", *overrides]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return searched


def widths(study: Path) -> list[tuple[str, int]]:
    """Of each trial: the options that it chose, and its width."""
    composed = []
    for path in sorted(study.glob("*/.hydra/config.yaml")):
        overrides = OmegaConf.load(path.with_name("overrides.yaml"))
        shape = next((line for line in overrides if line.startswith("shape=")), "")
        composed.append((shape, OmegaConf.load(path).shape.width))
    return composed


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_every_trial_has_the_settings_of_the_start(app: App, tmp_path: Path, jobs: int) -> None:
    done = app(*SEARCH, "edits=true", f"hydra.sweeper.n_jobs={jobs}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert widths(tmp_path / "study") == [("", 1)] * 4
    refused = app(*SEARCH, "edits=true", "hydra.sweeper.n_trials=5")
    assert refused.returncode == 1 and "fixed.shape.width: was 1, now 99" in refused.stderr


@pytest.mark.slow
def test_so_do_the_options_that_it_draws(app: App, tmp_path: Path) -> None:
    seeded = "hydra.sweeper.sampler.seed=1"  # of six trials some draw round, some flat
    drawn = (*SEARCH, "shape=choice(round,flat)", "edits=true", "hydra.sweeper.n_trials=6", seeded)
    done = app(*drawn)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*widths(tmp_path / "study")} == {("shape=round", 1), ("shape=flat", 2)}
    refused = app(*drawn)
    assert refused.returncode == 1
    assert "options.shape=flat.shape.width: was 2, now 99" in refused.stderr
    assert "options.shape=round.shape.width: was 1, now 99" in refused.stderr
    confirmation = ("hydra.sweeper.study=study", "hydra.sweeper.test=false", "edits=true")
    confirmed = app(*confirmation, sweeper="confirm")
    assert confirmed.returncode == 1 and "shape=flat.shape.width: was 2, now 99" in confirmed.stderr
    assert not (tmp_path / "study" / "confirmation").exists()


@pytest.mark.slow
def test_an_edit_that_changes_no_setting_is_no_difference(app: App, tmp_path: Path) -> None:
    assert app(*SEARCH).returncode == 0
    file = tmp_path / "conf" / "shape" / "round.yaml"
    file.write_text("# a comment\nheight: ${x}\nwidth: 1\n")
    (file.parent / "new.yaml").write_text("width: 7\n")
    resumed = app(*SEARCH, "hydra.sweeper.n_trials=5")
    assert resumed.returncode == 0, resumed.stderr
    assert widths(tmp_path / "study") == [("", 1)] * 5

"""What a command line brings along, composed in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cifar import trust
from cifar.compose import composed
from cifar.options.command_line import prepared, without_trust
from cifar.options.hydra_private import Composition
from cifar.options.option import ConfigError
from cifar.options.restored import of_run, restored
from cifar.options.resume import may_change, settings_of
from cifar.options.shared import run_within
from cifar.options.start import check_known
from cifar.overrides import is_within, parse
from cifar.run import one_line
from cifar.search import APP


@pytest.mark.parametrize("line", ["trust=my_net,os", "trust=null", "~trust", "trust={a: b}", "+trust=choice(a,b)"])
def test_trust_is_a_list_of_modules_or_refused(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """a,b is a sweep for Hydra: nothing of it was trusted, and no word said so."""
    monkeypatch.setattr(sys, "argv", ["run.py", line])
    with pytest.raises(ConfigError, match=r"trust.*: allowed: trust=\[my_module\] or trust=\[my_module,another\]"):
        without_trust(parse([line]))
    assert trust.granted()[0] == ()


def test_a_variable_that_names_no_module_is_refused_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_granted", ["a b"])
    with pytest.raises(trust.TrustError, match="trust=a b: not the name of a module"):
        without_trust(parse(["epochs=1"]))


@pytest.mark.parametrize("way", ["resume", "from_study"])
def test_keys_of_an_option_that_is_brought_along_can_be_given(
    way: str, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """optimizer.betas is a key of the run's adam; sgd, the default, has none."""
    lines = ["data=digits", "optimizer=adam", "scheduler=onecycle"]
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(lines))
    (tmp_path / "best.yaml").write_text(yaml.safe_dump({"overrides": lines}))
    brought = f"{way}={tmp_path}"
    with prepared():
        config = compose(brought, "optimizer.betas=[0.5,0.9]", "scheduler={warmup: 0.5}")
        assert config.optimizer.betas == [0.5, 0.9] and config.optimizer.lr == 0.001
        assert config.scheduler.warmup == 0.5 and config.data.source == "digits"
        with pytest.raises(HydraException, match=r"optimizer\.momentum"):
            compose(brought, "optimizer.momentum=0.5")
        with pytest.raises(HydraException, match=r"optimizer\.betas"):
            compose("optimizer.betas=[0.5,0.9]")


def test_logging_that_cannot_be_set_up_is_one_line() -> None:
    """ValueError of Python's logging, below Hydra."""
    with pytest.raises(ValueError) as caught:
        configure_log(OmegaConf.create({"version": 1, "disable_existing_loggers": False, "root": {"level": "FOO"}}))
    line = one_line(caught.value)
    assert line is not None and line.startswith("hydra.job_logging") and "Unknown level: 'FOO'" in line


def test_what_conf_said_then_is_restored_where_nobody_gives_it(
    tmp_path: Path, compose: Callable[..., DictConfig]
) -> None:
    scheduler = {"_target_": "cifar.optim.plateau", "patience": 7, "factor": 0.1}
    others = {"cache": {"dir": "elsewhere"}, "hydra": {"verbose": True}, "unknown": 1}
    record = {"epochs": 3, "scheduler": scheduler, "optimizer": {"lr": 0.5}, **others}
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(record))
    start = Composition(compose("data=digits"), [], RunMode.RUN, True, None)  # type: ignore[arg-type]
    lines = restored(start, "run", of_run(str(tmp_path)), {"optimizer"})
    assert [line.input_line for line in lines] == ["epochs=3", "scheduler.patience=7"]
    assert restored(start, "run", {}, set()) == []


@pytest.mark.parametrize(
    "line, allowed", [("data=null", "digits"), ("tracker=null", "none"), ("+optimizer=null", "sgd")]
)
def test_a_group_that_is_null_is_named_with_its_options(line: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(line)}: not allowed; allowed: .*{allowed}"):
        without_trust(parse([line]))


@pytest.mark.parametrize(
    "line, message",
    [
        ("hydra.sweeper.n_trials=null", "hydra.sweeper.n_trials=null: not allowed; allowed: a value"),
        (
            "hydra.sweeper.params=3",
            "Cannot assign int to Dict[str, Any]; allowed: a mapping, as hydra.sweeper.params={",
        ),
        ("+hydra.sweeper.params.optimizer\\.lr=1", "+hydra.sweeper.params.optimizer\\.lr=1"),
    ],
)
def test_what_cannot_be_merged_is_named(line: str, message: str, compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(HydraException) as caught:
        compose("hydra/sweeper=optuna", line, hydra=True)
    assert message in str(one_line(caught.value))


@pytest.mark.parametrize(
    "line, allowed",
    [
        ("+hydra.foo=1", "verbose"),
        ("+hydra.sweep.foo=1", "dir, subdir"),
        ("+hydra.run.foo=1", "dir"),
        ("+hydra.sweeper.timeout=1", "max_batch_size, params"),
        ("+hydra.launcher.foo=1", "none; those of joblib: with hydra/launcher=joblib"),
    ],
)
def test_a_key_that_hydra_does_not_have_is_refused(line: str, allowed: str, compose: Callable[..., DictConfig]) -> None:
    key = line[1:].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{key}: no such setting; allowed: .*{allowed}"):
        check_known("hydra", compose(line, hydra=True).hydra)
    for options in ([], ["hydra/sweeper=optuna"], ["hydra/launcher=joblib"], ["+hydra.job.env_set.A=b"]):
        check_known("hydra", compose(*options, hydra=True).hydra)


def test_what_may_change_between_two_starts_of_a_search_may_change_for_a_run_that_it_resumes() -> None:
    config = composed("data=digits")
    for key in settings_of(config):
        if is_within(key, APP.execution_keys):
            assert may_change(config, key), key


@pytest.mark.parametrize("place", ["3", "runs/3", "3/deep/er"])
def test_a_trial_is_found_in_the_folder_of_its_study_which_has_moved(place: str, tmp_path: Path) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert run_within(tmp_path, f"/home/me/sweeps/photos/{place}") == tmp_path / place
    assert run_within(tmp_path / "elsewhere", f"/home/me/sweeps/photos/{place}").parent == tmp_path / "elsewhere"

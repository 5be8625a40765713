"""model=own, optimizer=own and scheduler=own: called where the module is trusted, and only there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
import yaml
from omegaconf import DictConfig
from torch.optim import SGD

from cifar.content import code_changes
from cifar.models.build import build_model
from cifar.options.check import check
from cifar.options.option import ConfigError
from cifar.options.own import code_digests
from cifar.results import read_metrics, read_result
from cifar.training.optim import own_optimizer
from cifar.training.schedulers import own_schedule

RunPy = Callable[..., "CompletedProcess[str]"]
MODULE = "my_net"
OWN = ("model=own", f"model.factory={MODULE}:Net")


def model_of(name: str, **kwargs: object) -> torch.nn.Module:
    settings = {"_target_": "cifar.models.build.own_model", "factory": f"{MODULE}:{name}", "kwargs": kwargs}
    return build_model(settings, 10)


@pytest.mark.usefixtures("trusted")
def test_a_factory_is_called_with_its_arguments() -> None:
    model = model_of("Net", width=7)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    weights = list(model.parameters())
    assert weights[0].shape == (7, 48)
    optimizer = own_optimizer([{"params": weights}], f"{MODULE}:Lion", {"scale": 2.0}, lr=0.1, weight_decay=0.0)
    assert optimizer.param_groups[0]["scale"] == 2.0
    network_of_torch = model_of("sequential")
    assert network_of_torch(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_scheduler_is_stepped_at_its_interval(interval: str) -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = own_schedule(optimizer, 4, f"{MODULE}:halved", interval, {})
    optimizer.step()
    called, other = (schedule.step, schedule.epoch) if interval == "step" else (schedule.epoch, schedule.step)
    for call in (other, called):
        before = optimizer.param_groups[0]["lr"]
        call(*([0.5] if call == schedule.epoch else []))  # type: ignore[operator]
        assert (optimizer.param_groups[0]["lr"] < before) == (call == called)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        ("Nope", {}, "has no attribute 'Nope'"),
        ("Net", {"widht": 3}, "unexpected keyword argument 'widht'"),
        ("nothing", {}, "returned NoneType; allowed: what returns a torch.nn.Module"),
    ],
)
def test_what_makes_no_network_is_an_error(name: str, kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of(name, **kwargs)


def test_a_module_that_nobody_trusts_is_not_imported(compose: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match=rf"not called, .*trust=\[{MODULE}\] on the command line"):
        check(compose("data=digits", *OWN))


@pytest.mark.usefixtures("trusted")
def test_only_code_that_changed_is_named(compose: Callable[..., DictConfig]) -> None:
    code = code_digests(check(compose("data=digits", *OWN)))
    assert list(code) == [MODULE] and code_changes({"code": code}, {"code": code}) == []
    assert MODULE in code_changes({"code": {MODULE: "another"}}, {"code": code})[0]
    assert code_changes({}, {"code": code}) == [] == code_changes({"code": code}, {})


def test_an_own_network_is_searched_resumed_and_used(run_py: RunPy, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / f"{MODULE}.py", tmp_path)
    common = ("data=digits", "data.limit=100", "epochs=1", "device=cpu", "threads=1")
    search = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=s")
    trusting = f"trust=[{MODULE}]"
    done = run_py(*search, *common, *OWN, "+model.kwargs.width=choice(2,3)", trusting, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    best = yaml.safe_load((tmp_path / "sweeps" / "s" / "best.yaml").read_text())
    refused = run_py("from_study=sweeps/s", cwd=tmp_path)
    assert refused.returncode == 1 and "trust=[my_net]" in refused.stderr
    parts = ("optimizer=own", f"optimizer.factory={MODULE}:Lion", "scheduler=own")
    schedule = (f"scheduler.factory={MODULE}:halved", "scheduler.interval=step")
    done = run_py("from_study=sweeps/s", *parts, *schedule, trusting, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    saved = yaml.safe_load((tmp_path / "run" / ".hydra" / "config.yaml").read_text())
    assert saved["model"]["kwargs"]["width"] == best["params"]["+model.kwargs.width"]
    with (tmp_path / f"{MODULE}.py").open("a") as file:
        file.write("\n# changed\n")
    done = run_py("resume=run", "epochs=2", trusting, cwd=tmp_path)
    assert done.returncode == 0 and f"the file of module {MODULE} has changed" in done.stdout + done.stderr
    rates = [metrics.lr for metrics in read_metrics(tmp_path / "run" / "metrics.csv")]
    assert len(rates) == 2 and rates[1] < rates[0]
    assert list(read_result(tmp_path / "run")["code"]) == [MODULE]


def test_a_network_of_another_shape_is_an_error_before_training(run_py: RunPy, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / f"{MODULE}.py", tmp_path)
    wrong = ("model=own", f"model.factory={MODULE}:OneLogitMore", f"trust=[{MODULE}]", "data=digits", "device=cpu")
    done = run_py(*wrong, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1 and "it gives a tensor (32, 11), not (32, 10)" in done.stderr
    assert not (tmp_path / "run").exists()

"""resume, from_study and trust however they are given; a refused start changes nothing; what is recorded is used."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig
from processes import succeed

from cifar.options.check import check
from cifar.options.command_line import expand, read_run, read_study
from cifar.options.option import ConfigError
from cifar.options.resume import check_resume
from cifar.options.shared import read_overrides
from cifar.overrides import parse
from cifar.results import read_metrics

RunPy = Callable[..., "subprocess.CompletedProcess[str]"]
ONE = ("data=digits", "data.limit=120", "model.depths=[1]", "model.width=2", "device=cpu", "threads=1", "epochs=1")


def refuse(answer: subprocess.CompletedProcess[str], *phrases: str) -> None:
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert all(phrase in answer.stderr for phrase in phrases), answer.stderr


def recorded(run: Path) -> dict[str, object]:
    return dict(yaml.safe_load((run / ".hydra" / "config.yaml").read_text()))


def rates(run: Path) -> list[float]:
    return [metrics.lr for metrics in read_metrics(run / "metrics.csv")]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(run_py: RunPy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a finished run of one epoch, r; tests change a copy of it."""
    place = tmp_path_factory.mktemp("finished")
    succeed(run_py(*ONE, "hydra.run.dir=r", cwd=place))
    return place


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A finished run of one epoch, in r."""
    return Path(shutil.copytree(finished / "r", tmp_path / "r"))


def write_study(folder: Path, *more: str) -> None:
    folder.mkdir(parents=True)
    lines = [line for line in ONE if not line.startswith(("device", "threads"))]
    (folder / "best.yaml").write_text(yaml.safe_dump({"overrides": [*lines, "optimizer.lr=0.07", *more]}))


def write_experiment(folder: Path, text: str, name: str = "mine") -> None:
    (folder / "conf" / "experiment").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")


def composed(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The config that --cfg all prints."""
    config: dict[str, Any] = yaml.safe_load(succeed(answer))
    return config


@pytest.mark.parametrize(
    "arguments, environment",
    [
        (["resume=r"], {"HYDRA_FULL_ERROR": "1"}),
        (["++resume='r'"], {}),
        (["experiment=mine", "--config-dir", "conf"], {}),
        (["hydra.searchpath=[file://DIR/conf]", "experiment=mine"], {}),
    ],
    ids=["full-error", "added and quoted", "experiment", "searchpath"],
)
def test_a_run_is_resumed_however_it_is_named(
    arguments: list[str], environment: dict[str, str], run_dir: Path, run_py: RunPy, tmp_path: Path
) -> None:
    write_experiment(tmp_path, "resume: r\n")
    arguments = [argument.replace("DIR", str(tmp_path)) for argument in arguments]
    config = composed(run_py(*arguments, "epochs=2", "--cfg", "all", cwd=tmp_path, **environment))
    assert config["resume"] == config["hydra"]["run"]["dir"] == "r"
    assert (config["epochs"], config["model"]["width"], config["data"]["source"]) == (2, 2, "digits")
    assert not (tmp_path / "outputs").exists()


def test_a_run_is_resumed_in_its_directory(run_dir: Path, run_py: RunPy, tmp_path: Path) -> None:
    write_experiment(tmp_path, "resume: r\n")
    succeed(run_py("--config-dir", "conf", "experiment=mine", "epochs=2", cwd=tmp_path))
    assert len(rates(run_dir)) == 2 and not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("way", ["from_study=sweeps/s", "++from_study='sweeps/s'"])
def test_a_study_is_used_however_it_is_named(way: str, run_py: RunPy, tmp_path: Path) -> None:
    write_study(tmp_path / "sweeps" / "s", "epochs=3")
    config = composed(run_py(way, "epochs=1", "--cfg", "all", cwd=tmp_path, HYDRA_FULL_ERROR="1"))
    assert (config["from_study"], config["epochs"], config["optimizer"]["lr"]) == ("sweeps/s", 1, 0.07)


def test_a_study_may_be_named_by_an_experiment(run_py: RunPy, tmp_path: Path) -> None:
    """What the experiment sets wins over the study, as what the command line sets does. Resuming needs no study."""
    write_study(tmp_path / "sweeps" / "s", "epochs=3")
    write_experiment(tmp_path, "from_study: sweeps/s\nepochs: 1\n")
    arguments = ["--config-dir", "conf", "experiment=mine"]
    succeed(run_py(*arguments, "hydra.run.dir=r", cwd=tmp_path, HYDRA_FULL_ERROR="1"))
    assert rates(tmp_path / "r") == [0.07] and recorded(tmp_path / "r")["from_study"] == "sweeps/s"
    (tmp_path / "sweeps" / "s" / "best.yaml").unlink()
    succeed(run_py(*arguments[:2], "resume=r", "epochs=2", cwd=tmp_path))
    assert rates(tmp_path / "r") == [0.07, 0.07]


def test_jobs_of_a_grid_have_the_settings_of_the_study_or_are_refused(run_py: RunPy, tmp_path: Path) -> None:
    write_study(tmp_path / "s")
    for name in ("a", "b"):
        write_experiment(tmp_path, "from_study: s\n", name)
    succeed(run_py("-m", "from_study=s", "seed=0,1", "hydra.sweep.dir=g", cwd=tmp_path))
    assert rates(tmp_path / "g" / "0") == rates(tmp_path / "g" / "1") == [0.07]
    swept = ("--config-dir", "conf", "experiment=a,b")
    refuse(run_py("-m", *ONE, *swept, cwd=tmp_path), "from_study=s", "on the command line")
    refuse(run_py("-m", *ONE, "from_study=s,t", cwd=tmp_path), "one study")
    refuse(run_py("-m", *ONE, "resume=g/0", "seed=0,1", cwd=tmp_path), "resume=g/0", "-m")


@pytest.mark.parametrize(
    "change, phrases",
    [
        ("optimizer.lr=-1", ["optimizer.lr"]),
        ("model.width=8", ["model.width=8: was 2"]),
        ("optimizer=adam", ["optimizer._target_=torch.optim.Adam: was torch.optim.SGD"]),
        ("scheduler=cosine", ["scheduler._target_"]),
        ("data.val_seed=1", ["data.val_seed=1: was 0"]),
        ("batch_size=16", ["batch_size=16: was 32"]),
        ("seed=1", ["seed=1: was 0"]),
        ("precision=fp32", ["precision=fp32: was auto"]),
        ("epochs=0", ["epochs=0"]),
        ("optimizer.decay_norms_and_biases=false", ["decay_norms_and_biases=False: was True"]),
    ],
)
def test_what_a_resumed_run_cannot_change_is_refused(
    change: str, phrases: list[str], finished: Path, compose: Callable[..., DictConfig]
) -> None:
    before = content(finished)
    resume = str(finished / "r")
    overrides = expand(parse([change]), resume, None)
    with pytest.raises(ConfigError) as raised:
        check_resume(check(compose(*(str(override.input_line) for override in overrides))))
    assert all(phrase in str(raised.value) for phrase in phrases)
    assert content(finished) == before


def test_a_refused_start_changes_nothing(
    run_dir: Path, run_py: RunPy, no_torch: dict[str, str], tmp_path: Path
) -> None:
    before = content(tmp_path)
    refuse(run_py("resume=r", "model.width=8", cwd=tmp_path, **no_torch), "model.width=8: was 2")
    assert content(tmp_path) == before


def test_a_directory_of_another_run_is_left_as_it_is(run_dir: Path, run_py: RunPy, tmp_path: Path) -> None:
    succeed(run_py("-m", *ONE, "seed=0,1", "hydra.sweep.dir=g", cwd=tmp_path))
    before = content(tmp_path)
    refuse(run_py(*ONE, "seed=5", "hydra.run.dir=r", cwd=tmp_path), "r already holds a run")
    refuse(run_py("resume=g/0", "hydra.run.dir=r", "epochs=2", cwd=tmp_path), "r already holds a run")
    refuse(run_py("-m", *ONE, "seed=5,6", "hydra.sweep.dir=g", cwd=tmp_path), "g already holds a grid")
    refuse(run_py("-m", *ONE, "seed=5,6", "hydra.sweep.dir=r", cwd=tmp_path), "r already holds a run")
    named = ("hydra.sweep.dir=g", "hydra.sweep.subdir=s${seed}")
    refuse(run_py("-m", *ONE, "seed=5,6", *named, "epochs=0", cwd=tmp_path), "epochs=0")
    (tmp_path / "r" / "checkpoint.pt").rename(tmp_path / "kept")
    (tmp_path / "r" / "checkpoint.pt").write_bytes(b"damaged")
    refuse(run_py("resume=r", "epochs=2", cwd=tmp_path), "r/checkpoint.pt")
    (tmp_path / "kept").replace(tmp_path / "r" / "checkpoint.pt")
    assert content(tmp_path) == before
    succeed(run_py("resume=r", "epochs=2", cwd=tmp_path))


def test_fewer_epochs_than_are_done_are_refused(run_dir: Path, run_py: RunPy, tmp_path: Path) -> None:
    succeed(run_py("resume=r", "epochs=2", cwd=tmp_path))
    before = content(run_dir)
    refuse(run_py("resume=r", "epochs=1", cwd=tmp_path), "epochs=1: 2 epochs of r are done")
    assert content(run_dir) == before


def test_runs_and_grids_of_the_same_moment_have_directories_of_their_names(run_py: RunPy, tmp_path: Path) -> None:
    """A year stands for the second."""
    for seed in (0, 1):
        succeed(run_py(*ONE, f"seed={seed}", "hydra.run.dir=o/${now:%Y}", cwd=tmp_path))
        grid = (f"seed={seed},{seed + 2}", "hydra.sweep.dir=m/${now:%Y}")
        succeed(run_py("-m", *ONE, *grid, cwd=tmp_path))
    first, second = sorted((tmp_path / "o").iterdir())
    assert second.name == f"{first.name}-1"
    assert [recorded(place)["seed"] for place in (first, second)] == [0, 1]
    first, second = sorted((tmp_path / "m").iterdir())
    assert [recorded(place / "1")["seed"] for place in (first, second)] == [2, 3]


def test_hydra_records_what_it_used_to(finished: Path) -> None:
    run_dir = finished / "r"
    overrides = yaml.safe_load((run_dir / ".hydra" / "overrides.yaml").read_text())
    hydra = yaml.safe_load((run_dir / ".hydra" / "hydra.yaml").read_text())["hydra"]
    assert overrides == list(ONE) and recorded(run_dir)["epochs"] == 1 and "hydra" not in recorded(run_dir)
    assert hydra["output_subdir"] == ".hydra" and hydra["overrides"]["task"] == list(ONE)
    assert hydra["runtime"]["output_dir"] == str(run_dir)


def test_what_a_resumed_run_changes_takes_effect(run_dir: Path, run_py: RunPy, tmp_path: Path) -> None:
    succeed(run_py("resume=r", "epochs=2", "optimizer.lr=0.001", cwd=tmp_path))
    succeed(run_py("resume=r", "epochs=3", "optimizer.weight_decay=0.1", cwd=tmp_path))
    assert rates(run_dir) == [0.01, 0.001, 0.001]
    assert recorded(run_dir)["optimizer"]["lr"] == 0.001  # type: ignore[index]


HOSTILE = (
    "hydra.job_logging.handlers.file.filename=victim",
    "+hydra.job_logging.handlers.file.mode=w",
    "hydra.run.dir=victims",
    "cache.dir=victims",
    "cache={dir: victims}",
    "tracker=tensorboard",
    "tracker.uri=sqlite:///victim.db",
    "data.root=victims",
    "hydra/job_logging@data=default",
    "trust=[os]",
    "resume=elsewhere",
    "experiment=../../evil",
    "+model={cache_dir: victims}",
)
"""What somebody else's file may try."""


@pytest.mark.parametrize("of", ["run", "study"])
def test_a_file_of_others_brings_training_settings_only(of: str, run_dir: Path, run_py: RunPy, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    hostile = [line for line in HOSTILE if line != "tracker=tensorboard"]
    if of == "run":
        (run_dir / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*ONE, *hostile]))
        output = succeed(run_py("resume=r", "epochs=2", cwd=tmp_path))
    else:
        write_study(tmp_path / "s", *hostile)
        output = succeed(run_py("from_study=s", "device=cpu", "hydra.run.dir=n", cwd=tmp_path))
    assert (tmp_path / "victim").read_text() == "precious"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(("victims", "victim."))]
    for line in set(hostile) - {"resume=elsewhere", "data.root=victims"}:
        assert line in output, f"{line} is left out, and not said"


@pytest.mark.parametrize("text", ["a: [", "overrides: 3\n", "- 1\n", "- '=='\n"])
def test_what_may_not_be_read_is_named(text: str, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / ".hydra" / "overrides.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"r/\.hydra/overrides\.yaml"):
        read_run(str(run_dir))
    (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"best\.yaml"):
        read_study(tmp_path)


def test_what_may_not_be_read_is_one_error(run_dir: Path, run_py: RunPy, tmp_path: Path) -> None:
    (run_dir / ".hydra" / "overrides.yaml").write_text("a: [")
    refuse(run_py("resume=r", cwd=tmp_path), "r/.hydra/overrides.yaml")


@pytest.mark.parametrize("of_run", [True, False])
def test_an_empty_mapping_of_hydras_is_left_out_and_said_to_be(
    of_run: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["hydra.job_logging={}", "epochs=3", "+hydra={job_logging: {}}"]
    taken = read_overrides(tmp_path / "overrides.yaml", lines, of_run)
    assert [override.input_line for override in taken] == ["epochs=3"]
    assert f"left out {lines[0]}, {lines[2]}; only training settings" in capsys.readouterr().err


def test_trust_is_neither_recorded_nor_taken_from_a_file(run_py: RunPy, tmp_path: Path) -> None:
    succeed(run_py(*ONE, "trust=[my_module]", "hydra.run.dir=r", cwd=tmp_path))
    assert not any(b"my_module" in text for text in content(tmp_path / "r").values())
    write_experiment(tmp_path, "trust: [os]\n", "e")
    refuse(run_py(*ONE, "--config-dir", "conf", "experiment=e", cwd=tmp_path), "trust", "command line")
    refuse(run_py(*ONE, "trust=['a b']", cwd=tmp_path), "trust=a b", "my_module")
    refuse(run_py(*ONE, "trust=[{a: b}]", cwd=tmp_path), "trust=", "my_module")

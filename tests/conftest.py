"""What the tests share: a separate cache, composed configs, small images, small trainers, run.py as a process."""

# ruff: noqa: E402  (the environment and sys.path are set before the imports that need these)
from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the processes that tests start

import numpy as np
import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import browser as chromium
import postgresql as server
import toy_app
from forkserver import ForkServer, shared
from sweeps import QUICK, Toy

import cifar.run  # noqa: F401  (it registers the resolvers and the plugins that the configs name)
from cifar import endings, trust
from cifar.data.augment.pieces import NO_PIECES, Pieces
from cifar.data.loader import ImageLoader
from cifar.experiment import run
from cifar.options.check import check
from cifar.options.config import Config
from cifar.reporting import NO_REPORTER
from cifar.training import optim, schedulers
from cifar.training.step import EagerScore, EagerStep, autocast
from cifar.training.trainer import Trainer

torch.set_num_threads(1)
TINY = ["data=digits", "data.limit=120", "model.depths=[1,1]", "model.width=4", "epochs=2", "device=cpu", "threads=1"]


SLOW_FIXTURES = {"run_py", "command", "searched", "browser", "postgresql"}
"""Fixtures that start run.py, a browser or a database server."""
MAX_PROCESSES = 4
"""Test processes by default: each may start a database server, a browser and several workers."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the option
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite on several cores, unless -n says otherwise; the tests of one GPU run one after another.

    Not with --cov: pytest-cov has already decided by now that it measures one process.
    """
    is_worker = hasattr(config, "workerinput")
    whole_suite = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    measures = bool(getattr(config.option, "cov_source", None))
    if is_worker or not config.pluginmanager.hasplugin("xdist"):
        return
    one_process = not whole_suite or measures or config.option.usepdb or torch.cuda.is_available()
    if config.option.numprocesses is None and not one_process:
        config.option.numprocesses = min(len(os.sched_getaffinity(0)), MAX_PROCESSES)
    if config.option.numprocesses and config.option.dist == "no":
        config.option.dist = "worksteal"  # no process ends long before the others


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the packages that are loaded by now, and look for cycles, of which composed configs are, less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as slow what starts run.py, a sweep, a browser or a database server: leave them out with -m "not slow"."""
    assert isinstance(item, pytest.Function)
    uses_fixture = not SLOW_FIXTURES.isdisjoint(item.fixturenames)
    uses_server = hasattr(item, "callspec") and "postgresql" in item.callspec.params.values()
    starts_sweep = "Sweep" in item.function.__code__.co_names  # the class of tests/sweeps.py
    if uses_fixture or uses_server or starts_sweep:
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of CUDA where there is no device; the summary says how many."""
    if not torch.cuda.is_available():
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("cuda")])
        items[:] = [item for item in items if not item.get_closest_marker("cuda")]


@pytest.fixture(scope="session", autouse=True)
def separate_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches for this session and the processes that it starts; between these, no proxy."""
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_CACHE", str(place))
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        yield place


@pytest.fixture(autouse=True)
def same_environment(separate_cache: Path) -> Iterator[None]:
    """After a test, variables are as before it: searches in this process set those that their workers need.

    Nothing is trusted by fixtures of wider scope, and no Ctrl-C of an earlier test is remembered.
    """
    for name in (trust.MODULES, trust.DIRECTORY):
        os.environ.pop(name, None)
    endings.CTRL_C.pressed = False
    before = os.environ.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "_granted", [])
        patch.setattr(trust, "_directory", trust._directory)
        yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """postgresql(): the URL of an empty database."""
    if not server.FOUND:
        pytest.skip("there is no PostgreSQL server on this machine (apt-get install postgresql)")
    with server.serving() as running:
        yield running.database


@pytest.fixture(scope="session")
def browser() -> Iterator[chromium.Browser]:
    """A headless Chromium."""
    if not chromium.INSTALLED:
        pytest.skip("there is no Chromium on this machine (apt-get install chromium chromium-driver)")
    with chromium.browsing() as running:
        yield running


@pytest.fixture(scope="session")
def searched(run_py: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a small search and another one (search, adam), a run and a grid of runs (run, grid)."""
    place = tmp_path_factory.mktemp("searched")
    sweep = ("-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", "hydra.sweeper.sampler.seed=1", *TINY)
    for arguments in (
        (*sweep, "hydra.sweep.dir=search", "hydra.sweeper.n_trials=6"),
        (*sweep, "hydra.sweep.dir=adam", "hydra.sweeper.n_trials=3", "optimizer=adam"),
        (*TINY, "hydra.run.dir=run"),
        ("-m", *TINY, "hydra.sweep.dir=grid", "optimizer.lr=0.01,0.1", "seed=0,1"),
    ):
        done = run_py(*arguments, cwd=place)
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides of a run of a second."""
    return list(TINY)


@pytest.fixture(scope="session")
def compose() -> Callable[..., DictConfig]:
    """compose(*overrides): the config of the command line, without its hydra part unless hydra=True."""

    def composed(*overrides: str, hydra: bool = False) -> DictConfig:
        with initialize_config_dir(str(ROOT / "conf")):
            cfg = hydra_compose("config", list(overrides), return_hydra_config=hydra)
        OmegaConf.set_struct(cfg, True)
        return cfg

    return composed


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/options/my_net.py is a module that the user trusts, in the directory of the start."""
    monkeypatch.setattr(trust, "_granted", ["my_net"])
    monkeypatch.setattr(trust, "_directory", str(ROOT / "tests" / "options"))


@pytest.fixture(scope="session")
def settings(compose: Callable[..., DictConfig]) -> Callable[..., Config]:
    """settings(*overrides): the checked config of a tiny run."""
    return lambda *overrides: check(compose(*TINY, *overrides))


@pytest.fixture(scope="session")
def tiny_run(compose: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of TINY, which no test changes."""
    folder = tmp_path_factory.mktemp("run")
    run(check(compose(*TINY)), str(folder), NO_REPORTER)
    return folder


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """command(*arguments): the command line that runs run.py in this interpreter."""
    return lambda *arguments: [sys.executable, str(ROOT / "run.py"), *arguments]


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Runs scripts as separate processes in which the packages are imported already."""
    yield shared()
    shared().close()


@pytest.fixture(scope="session")
def run_py(
    command: Callable[..., list[str]], fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_py(*arguments, cwd=, env=): run.py as a separate process, in an empty directory unless `cwd` is given."""

    def started(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        place = cwd or tmp_path_factory.mktemp("cwd")
        interpreter, *argv = command(*arguments)
        environment = os.environ | env
        if fork_server.accepts(environment):
            return fork_server.run(argv, place, environment, timeout=300)
        return subprocess.run(
            [interpreter, *argv], cwd=place, env=environment, capture_output=True, text=True, timeout=300
        )

    return started


@pytest.fixture(scope="session")
def no_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing torch fails."""
    place = tmp_path_factory.mktemp("no_torch")
    (place / "torch.py").write_text("raise ImportError('torch was imported')\n")
    return {"PYTHONPATH": str(place)}


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_folder(...): a directory of small random images, <root>/<part>/<class>/<number>.<suffix>."""

    def make(
        name: str = "images",
        parts: tuple[str, ...] = ("train",),
        classes: tuple[str, ...] = ("cat", "dog"),
        each: int = 4,
        suffix: str = "png",
        size: tuple[int, int] = (32, 32),
        mode: str = "RGB",
    ) -> Path:
        random = np.random.default_rng(0)
        for part in parts:
            for label in classes:
                place = tmp_path / name / part / label
                place.mkdir(parents=True)
                for number in range(each):
                    pixels = random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
                    Image.fromarray(pixels).convert(mode).save(place / f"{number}.{suffix}")
        return tmp_path / name

    return make


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Toy:
    """sweep(*overrides, fault="", luck=0.0): sweeps tests/toy_app.py in this process; what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # exceptions come through

    def swept(*overrides: str, fault: str = "", luck: float = 0.0) -> str:
        monkeypatch.setattr(toy_app, "FAULT", fault)
        monkeypatch.setattr(toy_app, "LUCK", luck)
        monkeypatch.setattr(sys, "argv", [str(toy_app.__file__), "-m", *overrides])
        capsys.readouterr()
        toy_app.main()
        return capsys.readouterr().out

    return swept


@pytest.fixture
def search(sweep: Toy) -> Toy:
    return lambda *overrides, **toy: sweep("hydra/sweeper=optuna", *QUICK, *overrides, **toy)


def random_images(count: int, classes: int = 3, size: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """images uint8 (N, 3, size, size) and labels int64 (N,)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % classes


@pytest.fixture(scope="session")
def images_of() -> Callable[..., tuple[Tensor, Tensor]]:
    return random_images


def small_model() -> nn.Module:
    """With batch norm and dropout, so that buffers and the random generator matter."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)
    )


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., Trainer]:
    """make_trainer(...): a trainer of a small model on 22 images of 8x8 pixels in 3 classes, batches of 4."""

    def make(
        schedule: Callable[..., Any] = schedulers.constant,
        model: nn.Module | None = None,
        lr: float = 0.1,
        total: int = 4,
        seed: int = 0,
        device: str = "cpu",
        pieces: Pieces = NO_PIECES,
        **schedule_settings: Any,
    ) -> Trainer:
        torch.manual_seed(seed)
        place = torch.device(device)
        model = (model or small_model()).to(place)
        train = ImageLoader(*random_images(22, size=8), 4, place, crop=1, flip=True, seed=seed, pieces=pieces)
        val = ImageLoader(*random_images(9, size=8, seed=1), 4, place)
        cast = autocast(place, torch.float32)
        optimizer = torch.optim.SGD(optim.parameter_groups(model, 0.0, True), lr=lr, momentum=0.9)
        steps = total * len(train)
        step = EagerStep(model, optim.decayed_parameters(model, True), 0.0, cast)
        scheduled, score = schedule(optimizer, steps, **schedule_settings), EagerScore(model, cast)
        return Trainer(model, train, val, optimizer, scheduled, step, score, total)

    return make


@pytest.fixture(scope="session")
def timeless() -> Callable[[Any], dict[str, Any]]:
    """An epoch's metrics without the two columns that differ from run to run."""
    return lambda metrics: {k: v for k, v in vars(metrics).items() if k not in ("seconds", "images_per_second")}

"""The program as pip installs it: built from the tracked files, used outside of the checkout in an empty directory."""

from __future__ import annotations

import configparser
import os
import re
import site
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import copy_checkout, succeed

from cifar import console, endings, layout
from cifar.commands import CONSOLE

OWN = {
    "optimizer/calm.yaml": "_target_: torch.optim.SGD\nlr: 0.01\nmomentum: 0.5\nnesterov: false\nweight_decay: 0.0\n"
    "decay_norms_and_biases: true\n",
    "search/calm.yaml": "optimizer.lr: tag(log, interval(1e-3, 1e-1))\n",
    "experiment/mine.yaml": "# @package _global_\ndefaults:\n  - override /optimizer: calm\nseed: 3\n",
}
"""A user's own config files."""
TINY = "data=digits data.limit=120 'model.depths=[1,1]' model.width=4 epochs=1 device=cpu"
Shell = Callable[..., str]


def setup(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(root / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as building leaves files behind."""
    copy = tmp_path_factory.mktemp("source")
    copy_checkout(copy)
    options = ["-q", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(copy / "dist")]
    succeed(subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], capture_output=True, text=True))
    (file,) = (copy / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def shell(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """shell(line): what a command line writes, in a directory that is empty at first.

    The wheel is in a new environment; torch and the rest are those of the tests, without what .pth files add to
    these: the checkout is not on the path.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True, with_pip=False)
    python = place / "bin" / "python"
    options = ["-q", "--no-deps", "--no-index", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    succeed(subprocess.run(pip, capture_output=True, text=True))
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "of_the_tests.pth").write_text("\n".join(site.getsitepackages()))
    directory = tmp_path_factory.mktemp("empty")
    environment = {**os.environ, "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)

    def run(line: str) -> str:
        return succeed(
            subprocess.run(
                line, shell=True, cwd=directory, env=environment, capture_output=True, text=True, timeout=300
            )
        )

    return run


@pytest.fixture(scope="module")
def searched(shell: Shell) -> str:
    """What a search of two workers with a user's own config files printed; it is in sweeps/s."""
    for name, text in OWN.items():
        shell(f"mkdir -p mine/{Path(name).parent} && cat > mine/{name} <<'END'\n{text}END")
    search = "cifar-search -m hydra/sweeper=optuna --config-dir mine experiment=mine hydra.sweep.dir=sweeps/s"
    return shell(f"{search} hydra.sweeper.n_jobs=2 hydra.sweeper.n_trials=2 {TINY}")


def test_setup_lists_every_package(root: Path) -> None:
    folders = {path.parent.relative_to(root) for path in root.glob("cifar/**/*.py")}
    folders |= {"cifar" / path.parent.relative_to(root) for path in root.glob("analysis/**/*.py")}
    names = {".".join(folder.parts) for folder in folders}
    assert set(setup(root)["options"]["packages"].split()) == names | {"cifar.conf"}, "packages in setup.cfg"


def test_setup_lists_every_console_command(root: Path) -> None:
    lines = setup(root)["options.entry_points"]["console_scripts"].split("\n")[1:]
    entries = dict(line.split(" = ") for line in lines)
    assert tuple(entries) == CONSOLE
    for entry in entries.values():
        module, _, function = entry.partition(":")
        assert module == "cifar.console" and callable(getattr(console, function))


@pytest.mark.slow
def test_one_name_is_installed_with_its_config_and_its_analysis(wheel: Path, root: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    version = setup(root)["metadata"]["version"]
    assert {name.split("/")[0] for name in names} == {"cifar", f"cifar_search-{version}.dist-info"}
    expected = {f"cifar/{file.relative_to(root)}" for file in (root / "conf").rglob("*.yaml")}
    expected |= {f"cifar/{file.relative_to(root)}" for file in (root / "analysis").rglob("*.py")}
    expected |= {f"cifar/{file.relative_to(root)}" for file in (root / "analysis").rglob("*.jinja")}
    for suffix in ("py", "jinja", "css", "js"):
        expected |= {str(file.relative_to(root)) for file in (root / "cifar").rglob(f"*.{suffix}")}
    assert {name for name in names if name.startswith("cifar/")} == expected


@pytest.mark.slow
def test_the_environment_has_the_wheel_and_not_the_checkout(shell: Shell, root: Path) -> None:
    seen = shell("python -c 'import cifar, cifar.analysis, sys; print(cifar.__file__, *sys.path)'")
    assert "/environment" in seen.split()[0] and str(root) not in seen.split()


@pytest.mark.slow
def test_the_printed_command_of_a_search_trains_the_best(searched: str, shell: Shell) -> None:
    assert "2 complete" in searched
    (command,) = re.findall(r"train it: (cifar-search .*)", searched)
    assert command == "cifar-search from_study=sweeps/s"
    assert "epoch 1/1" in shell(f"{command} hydra.run.dir=trained") and "run.log" in shell("ls trained")
    resumed = shell("cifar-search resume=trained epochs=2 --cfg job")
    assert "momentum: 0.5" in resumed and "--config-dir" in resumed, "with the user's own option"
    assert "command: cifar-search --config-dir" in shell("cat sweeps/s/best.yaml")


@pytest.mark.slow
@pytest.mark.usefixtures("searched")
def test_a_study_predicts_and_becomes_a_bundle_that_predicts(shell: Shell) -> None:
    shell('python -c \'from PIL import Image; Image.new("RGB", (40, 30)).save("photo.png")\'')
    predicted = shell("cifar-predict sweeps/s photo.png --device cpu")
    shell("cifar-export sweeps/s --bundle model")
    card = shell("cat model/README.md")
    assert "cifar-search" in card and "python -m" not in card
    assert shell("python model/predict.py photo.png").split()[:2] == predicted.split()[:2]
    assert shell("cifar-predict model photo.png").split()[:2] == predicted.split()[:2]
    assert "cifar-serve" in shell("cifar-serve --help")


@pytest.mark.slow
@pytest.mark.usefixtures("searched")
def test_summary_and_report_print_console_commands(shell: Shell) -> None:
    assert "train it: cifar-search from_study=sweeps/s\n" in shell("cifar-summary sweeps/s")
    shell("cifar-report sweeps/s")
    report = shell("cat sweeps/s/report/report.md")
    assert "cifar-search from_study=sweeps/s" in report and "`cifar-report sweeps/s`" in report
    assert "python " not in report


@pytest.mark.slow
def test_help_says_cifar_search(shell: Shell) -> None:
    text = shell("cifar-search --help")
    assert text.count("cifar-search ") >= 4 and "run.py" not in text
    assert "cifar-cache clear" in shell("cifar-cache --help")


def test_a_console_command_starts_its_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(endings, "prepare", lambda: None)
    for name, start in (("cifar-summary", console.summary), ("cifar-report", console.report)):
        monkeypatch.setattr(sys, "argv", [f"/bin/{name}", str(tmp_path / "nowhere")])
        with pytest.raises(SystemExit, match=r"error: .*nowhere: no such folder"):
            start()
    monkeypatch.setattr(sys, "argv", ["/bin/cifar-cache", "--dir", str(tmp_path)])
    console.cache()
    monkeypatch.setattr(sys, "argv", ["/bin/cifar-search", "epochs=0", f"hydra.run.dir={tmp_path}/r"])
    with pytest.raises(SystemExit, match="error: epochs=0"):
        console.search()


def test_in_a_checkout_analysis_has_the_name_by_which_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(layout.ROOT)])
    assert layout.analysis("frames").__name__ == "analysis.frames" and str(layout.ROOT) in sys.path

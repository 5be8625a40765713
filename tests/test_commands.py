"""Printed commands: what the shell and Hydra read is what was meant."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cifar import layout, trust
from cifar.commands import (
    CONSOLE,
    argument,
    as_started,
    command,
    install,
    module_command,
    override,
    quoted,
)

NAMES = [
    *("sweeps/digits-sgd", "a b", "it's", 'the "best"', 'it\'s the "best"', "[1]", "(x)", "a=b", "100%20", "a?b", "#1"),
    *(
        "$HOME",
        "${seed}",
        "\\${seed}",
        "back\\slash",
        "ends\\",
        "\\'",
        '\\"',
        "ü ß",
        "-x",
        "--",
        "~x",
        "+x",
        "a,b",
        "{a}",
    ),
    *(
        "null",
        "True",
        "1",
        "1e3",
        "1_0",
        "inf",
        "-inf",
        "nan",
        "2026-11-27",
        "1.5.2",
        "",
        " a ",
        "x:y",
        "*",
        "`id`",
        "a;b",
        "a,b=[1]{$}",
    ),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [override, lambda key, text: f"{key}={quoted(text)}"], ids=["override", "quoted"])
def test_an_override_is_read_back_by_the_shell_and_by_hydra(name: str, write: object) -> None:
    assert callable(write)
    (word,) = shlex.split(shlex.join([write("resume", name)]))
    (parsed,) = OverridesParser.create().parse_overrides([word])
    assert not parsed.is_sweep_override()
    assert OmegaConf.create({"resume": parsed.value()}).resume == name


def test_what_needs_no_quotes_has_none() -> None:
    assert override("from_study", "sweeps/digits-sgd") == "from_study=sweeps/digits-sgd"
    assert argument("hydra.sweeper.study_name", "a b") == "'hydra.sweeper.study_name=\"a b\"'"


def test_a_command_runs_from_the_directory_where_it_is_printed(root: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from cifar.commands import command; print(command('--info'))"
    )
    for place, script in ((root, "run.py"), (tmp_path, str(root / "run.py"))):
        done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
        assert shlex.split(done.stdout)[1:] == [script, "--info"]


def test_a_script_is_named_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "app.py")])
    assert shlex.split(command("x=1", script="app.py"))[1:] == [str(tmp_path / "app.py"), "x=1"]


def test_a_printed_command_trusts_what_this_process_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_granted", ["my_net", "other"])
    assert shlex.split(command("resume=r"))[-2:] == ["resume=r", "trust=[my_net,other]"]
    assert shlex.split(command("resume=r", with_trust=False))[-1] == "resume=r"


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the console commands; this process was started as one of them, by its path."""
    for name in CONSOLE:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "cifar-report")])
    return tmp_path


def test_commands_begin_as_the_program_was_started(console: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "python run.py x=1, python -m analysis.report, python -m cifar.predict; python -m benchmarks, python run.pyc"
    assert command("x=1") == f"{console}/cifar-search x=1"
    monkeypatch.setenv("PATH", str(console))
    assert command("x=1") == "cifar-search x=1"
    assert module_command("analysis.report", "a b") == "cifar-report 'a b'"
    assert as_started(text) == "cifar-search x=1, cifar-report, cifar-predict; python -m benchmarks, python run.pyc"
    (console / "run.py").touch()
    monkeypatch.setattr(sys, "argv", [str(console / "run.py")])
    assert shlex.split(command("x=1"))[1:] == [str(console / "run.py"), "x=1"]
    assert module_command("cifar.predict").endswith(" -m cifar.predict")


def test_an_installed_package_has_no_script(console: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(console))
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "executable", str(console / "python"))
    assert install("wandb") == "pip install -e '.[wandb]'"
    monkeypatch.setattr(layout, "INSTALLED", True)
    assert command("x=1") == "cifar-search x=1"
    assert module_command("analysis.report").endswith(" -m cifar.analysis.report")
    assert install("wandb") == "pip install 'cifar-search[wandb]'"

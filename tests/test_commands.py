"""Printed commands: what the shell and Hydra read is what was meant."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cifar import trust
from cifar.commands import argument, command, override, quoted

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

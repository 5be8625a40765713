"""README.md and docs/: what they say can be typed, and where they point is there."""

from __future__ import annotations

import argparse
import configparser
import importlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import PAGES, ROOT, Command, anchors, blocks, commands, links
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from cifar import trust
from cifar.commands import CONSOLE
from cifar.options.check import check
from cifar.options.command_line import expand, without_trust
from cifar.options.help import group_help
from cifar.overrides import key_of, parse
from cifar.search import APP
from cifar.sweep import plugin

ELSEWHERE = {"curl", "find", "jupyter", "optuna-dashboard", "python3", ".", "tensorboard", "mlflow", "wandb"}
"""Programs of others."""
names = [pytest.param(page, id=page.name) for page in PAGES]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader: a study, a run, and the module of docs/extending.md."""
    for name in ("sweeps/NAME", "sweeps/photos", "sweeps/cifar10-w16"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "best.yaml").write_text("overrides: [optimizer.lr=0.05]\n")
    (tmp_path / "outputs/DATE/TIME/.hydra").mkdir(parents=True)
    (tmp_path / "outputs/DATE/TIME/.hydra/overrides.yaml").write_text("[optimizer.lr=0.05]\n")
    (tmp_path / "my_net.py").write_text(python_of("extending.md", "my_net.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trust, "_granted", ["my_net"])
    monkeypatch.setattr(trust, "_directory", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["run.py", "trust=[my_net]"])
    return tmp_path


def python_of(page: str, word: str) -> str:
    """The block of Python in a page that has this word."""
    texts = [block.text for block in blocks(ROOT / "docs" / page) if block.language == "python" and word in block.text]
    assert len(texts) == 1
    return texts[0]


@pytest.mark.parametrize("page", names)
def test_every_command_is_one_that_works(page: Path, directory: Path) -> None:
    failures = []
    for command in {command.words: command for command in commands(page)}.values():
        try:
            check_command(command)
        except (Exception, SystemExit) as error:
            failures.append(f"{command}: {error!r}")
    assert not failures, "\n".join(failures)


def check_command(command: Command) -> None:
    """Raises what the command would, as far as that is seen without running it."""
    words = command.words
    if words[:2] == ("python", "run.py"):
        if not any(line.startswith(("error: ", "bash: ")) for line in command.output):  # test_troubleshooting.py
            check_run(words[2:])
    elif words[:2] == ("python", "-m"):
        check_module(words[2], list(words[3:]))
    elif words[0] == "pip":
        check_extras(words)
    elif words[0] == CONSOLE[0]:
        check_run(words[1:])
    elif words[0] in CONSOLE:
        name = words[0].removeprefix("cifar-")
        check_module(f"cifar.{name}" if is_there(f"cifar.{name}") else f"analysis.{name}", list(words[1:]))
    elif words[:2] == ("python", "app.py") or words[0] == "cd":
        return  # they are run in tests/sweep/test_any_app.py
    else:
        assert words[0] in ELSEWHERE, f"{words[0]} is not a program that is known here"
        assert command.mark or words[0] == "find", "it is not run: say so in a comment before the block"


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("cifar-predict sweeps/NAME photo.jpg", True),
        ("cifar-predikt sweeps/NAME photo.jpg", False),
        ("cifar-report sweeps/NAME --outt x", False),
        ("cifar-search optimizer=sdg", False),
        ("cifar-summary sweeps/NAME", True),
    ],
)
def test_a_wrong_command_is_seen(text: str, is_right: bool, directory: Path) -> None:
    command = Command(ROOT / "README.md", 1, tuple(text.split()), "", text)
    if is_right:
        check_command(command)
    else:
        with pytest.raises((Exception, SystemExit)):
            check_command(command)


def check_run(words: tuple[str, ...]) -> None:
    if words[0:1] == ("--help",):
        for name in words[1:]:
            assert list(group_help(name))
        return
    flags = [word for word in words if word.startswith("-")]
    assert set(flags) <= {"-m", "--cfg"}
    overrides = [word for word in words if "=" in word]
    parsed = without_trust(parse(overrides))
    places = {key: value for key in ("resume", "from_study", "from_run") if (value := _value(parsed, key))}
    if places:
        parsed = expand(parsed, places.get("resume"), places.get("from_study"), run=places.get("from_run"))
    with initialize_config_dir(str(ROOT / "conf")):
        cfg = compose("config", [first_value(line) for line in parsed], return_hydra_config=True)
    OmegaConf.set_struct(cfg, True)
    check(cfg)
    study = cfg.hydra.sweeper.get("study")
    assert study is None or Path(study).is_dir()


def _value(parsed: list[Override], key: str) -> str | None:
    return next((str(override.value()) for override in parsed if key_of(override) == key), None)


def first_value(line: Override) -> str:
    """The override of a trial: of several values the first one, of an interval its start."""
    if not line.is_sweep_override():
        return str(line.input_line)
    if line.is_interval_sweep():
        return f"{line.get_key_element()}={line.value().start}"  # type: ignore[union-attr]
    return f"{line.get_key_element()}={next(iter(line.sweep_string_iterator()))}"


class Parsed(Exception):
    """A command line was parsed without an error."""


def check_module(name: str, arguments: list[str]) -> None:
    if name in ("pytest", "tests.house", "venv"):
        return
    if not arguments and name != "cifar.cache":  # the name of a program
        assert is_there(name)
        return
    if name == "benchmarks":
        assert not arguments or (ROOT / "benchmarks" / f"{arguments[0]}.py").exists()
        return
    module = importlib.import_module(f"{name}.__main__" if name in ("cifar.serve", "cifar.inspection") else name)
    if hasattr(module, "parser"):
        module.parser().parse_args(arguments)
        return
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        original = argparse.ArgumentParser.parse_args

        def parse_only(parser: argparse.ArgumentParser, *arguments_: object) -> None:
            original(parser, *arguments_)  # type: ignore[call-overload]
            raise Parsed

        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        module.main(arguments)


def is_there(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).exists() or (ROOT / f"{name.replace('.', '/')}.py").exists()


def check_extras(words: tuple[str, ...]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
        assert extra in setup["options.extras_require"]


@pytest.mark.parametrize("page", names)
def test_every_link_leads_somewhere(page: Path) -> None:
    for line, target in links(page):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}:{line}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}:{line}: {target}"


def test_the_readme_is_short_and_names_every_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in text


@pytest.mark.parametrize("page", [page for page in names if page.id not in ("README.md", "glossary.md")])
def test_a_page_begins_with_what_one_can_do_and_a_command(page: Path) -> None:
    title, empty, text, *_ = page.read_text("utf-8").splitlines()
    assert title.startswith("# ") and not empty and text.startswith("You can ")
    assert next(blocks(page)).line <= 12


def test_a_page_has_no_comment_but_those_for_the_tests() -> None:
    for page in PAGES:
        for comment in re.findall(r"<!--.*?-->", page.read_text("utf-8")):
            assert re.match(r"<!-- (not run: |not provoked: |figures: |end of figures)", comment), (
                f"{page.name}: {comment}"
            )


def test_the_table_of_figures_is_that_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import table

    page = tmp_path / "benchmarks.md"
    shutil.copy(table.PAGE, page)
    monkeypatch.setattr(table, "PAGE", page)
    table.main([])
    assert page.read_text("utf-8") == (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def test_the_network_of_the_page_on_extending_trains(
    directory: Path, settings: Callable[..., object], images_of: Callable[..., tuple[object, object]]
) -> None:
    space: dict[str, type] = {}
    exec(python_of("extending.md", "my_net.py"), space)
    images, _ = images_of(4)
    logits = space["Net"](num_classes=3, width=4)(images.float())  # type: ignore[attr-defined]
    assert logits.shape == (4, 3)


def test_the_registration_of_the_page_on_extending_runs() -> None:
    names: dict[str, object] = {}
    try:
        exec(python_of("extending.md", "plugin.register"), names)
        assert names["plugin"] is plugin
    finally:
        plugin.register(APP)

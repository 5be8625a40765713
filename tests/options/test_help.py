"""--help, and --help GROUP: every option and key, with its default, what is allowed and what it does."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from cifar.options.check import check
from cifar.options.fields import describe
from cifar.options.group_help import OptionHelp, from_files, from_store
from cifar.options.help import COPY, OF_A_SEARCH, group_help, help_text, show_help
from cifar.options.option import ConfigError, groups
from cifar.options.yaml_lines import first_comment, option_files, settings

CONF = Path(__file__).parents[2] / "conf"
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def options_of(name: str) -> list[OptionHelp]:
    path = OF_A_SEARCH.get(name)
    return from_files(name, CONF / name) if path is None else from_store(path, CONF / path)


def test_help_fits_two_screens_and_names_every_group_option_and_key_outside_the_groups() -> None:
    lines = help_text().replace("$$", "$").splitlines()
    assert len(lines) <= 60
    for name in (*GROUPS, *OF_A_SEARCH):
        line = next(line for line in lines if line.split()[:1] == [name])
        assert all(option.name in line for option in options_of(name))
    for key, value, text in settings(CONF / "config.yaml", ""):
        if key.partition(".")[0] not in ("hydra", *GROUPS):
            assert text, f"{key} has no comment in conf/config.yaml"
            assert any(line.startswith(f"  {key}={value} ") and line.endswith(text) for line in lines), key


def test_the_commands_of_help_compose(compose: Callable[..., DictConfig]) -> None:
    for arguments in COPY:
        assert " ".join(arguments) in help_text()
        check(compose(*(word for word in arguments if word != "-m"), hydra=True))


@pytest.mark.parametrize("name", [*GROUPS, *OF_A_SEARCH])
def test_help_of_a_group_lists_its_options_and_what_each_key_does(name: str) -> None:
    lines = [*group_help(name), ""]
    for option in options_of(name):
        assert f"  {option.name:<20} {option.line}" in lines and len(option.line) > 10
    for number, line in enumerate(lines):
        if line.startswith("  ") and "=" in line.split()[0] and name not in ("experiment", "sampler"):
            key = line.split("=")[0].strip()
            has_text = lines[number + 1].startswith("      ") or f"  {key}=" in "\n".join(lines[:number])
            assert has_text, f"{key}: no comment behind it in any YAML of conf/{name}, or no text in its field"


@pytest.mark.parametrize("name", sorted(set(GROUPS) & groups().keys()))
def test_help_of_a_group_says_what_each_key_allows(name: str) -> None:
    text = "\n".join(group_help(name))
    for option in groups()[name].options.values():
        fields = [field for field in dataclasses.fields(option) if field.name != option.key]  # type: ignore[arg-type]
        for field in fields:
            start = f"  {name}.{field.name}"
            assert any(line.startswith(start) and describe(field) in line for line in text.splitlines()) or (
                f"{start}." in text  # the keys of a group of settings
            )


def test_a_yaml_file_opens_with_the_first_line_of_the_docstring_of_its_option() -> None:
    for name in sorted(set(GROUPS) & groups().keys()):
        base = groups()[name]
        for file in option_files(CONF / name):
            values = {key: value for key, value, _ in settings(file, name)}
            line = (inspect.getdoc(base.options[values[f"{name}.{base.key}"]]) or "").splitlines()[0]
            assert first_comment(file) == line or file.stem.startswith("resnet")


def test_help_of_what_is_no_group_names_the_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"--help colour: no such group; allowed: augment, data, .*, sampler, sweeper"
    ):
        show_help(["--help", "data", "colour"])
    assert capsys.readouterr().out == ""


def test_only_words_after_help_are_groups(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--help", "seed=1", "data"], ["--help", "-m", "data"], ["data"], []):
        show_help(arguments)
    with pytest.raises(SystemExit) as ended:
        show_help(["-m", "-h", "hydra/sweeper/pruner", "tracker", "seed=1"])
    assert ended.value.code is None
    assert "hydra/sweeper/pruner=OPTION" in (text := capsys.readouterr().out) and "tracker=OPTION" in text


def test_what_a_file_does_not_say_is_as_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, more in (("cifar10", "fit: crop # how\n"), ("cifar100", "fit: crop\n"), ("digits", "")):
        (tmp_path / "data" / f"{name}.yaml").write_text(f"# Some images.\nsource: {name}\n{more}")
    lines = list(group_help("data", tmp_path))
    start = lines.index(next(line for line in lines if line.startswith("  data.fit=crop ")))
    assert lines[start + 1].strip() == "how" and "data=digits" not in lines

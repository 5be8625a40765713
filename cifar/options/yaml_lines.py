"""The YAML files in conf/ as --help shows them: each key with its value as it is written, and the comment behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?P<value> .*?)??(?: +# (?P<comment>.*))?")
CHOSEN_BY_AN_EXPERIMENT = "for_"
"""How the names of options begin that an experiment chooses by transfer=, and nobody types."""


def option_files(folder: Path) -> list[Path]:
    """The files of the options that a group offers, by name."""
    return sorted(file for file in folder.glob("*.yaml") if not file.name.startswith(CHOSEN_BY_AN_EXPERIMENT))


def settings(file: Path, package: str) -> Iterator[tuple[str, str, str]]:
    """Key, value and comment of each setting in a file; `package` comes before its keys, unless it says otherwise."""
    text = file.read_text("utf-8")
    prefix = "" if "# @package " in text or not package else f"{package}."
    parents: list[tuple[int, str]] = []
    for match in filter(None, map(LINE.fullmatch, text.splitlines())):
        indent, key = len(match["indent"]), match["key"]
        parents = [(depth, name) for depth, name in parents if depth < indent]
        if match["value"]:
            path = ".".join([*(name for _, name in parents), key])
            yield f"{prefix}{path}", match["value"].strip(), match["comment"] or ""
        else:
            parents.append((indent, key))


def first_comment(file: Path) -> str:
    """The first comment; those for Hydra (# @package) do not count."""
    lines = (line.removeprefix("# ") for line in file.read_text("utf-8").splitlines() if line.startswith("# "))
    return next((line for line in lines if not line.startswith("@")), "")

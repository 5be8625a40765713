"""README.md and docs/*.md, read for the tests: blocks, commands, sessions with their messages, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- not (run|provoked): (.+) -->\n\Z")
INLINE = re.compile(r"`((?:python|pip|cifar-\w+) [^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code. `mark` is why it is not run, from the HTML comment before it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str


@dataclass(frozen=True)
class Command:
    """A command, with the lines that the page shows below it."""

    page: Path
    line: int
    words: tuple[str, ...]
    mark: str
    text: str
    output: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        mark = MARK.search(text[: match.start()])
        yield Block(page, _line(text, match.start()), match[1], match[2], mark[2] if mark else "")


def commands(page: Path) -> list[Command]:
    """The commands of a page, in blocks without a language and in the text; those joined by && and | apart."""
    typed = [command for block in blocks(page) if not block.language for command in _typed(block)]
    text = page.read_text("utf-8")
    prose = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    inline = [
        Command(page, _line(prose, match.start()), _words(match[1]), "", match[1]) for match in INLINE.finditer(prose)
    ]
    return [part for command in [*typed, *inline] for part in _parts(command)]


def sessions() -> list[Command]:
    """The commands that a page shows with their output: lines that begin with $."""
    shown = [block for page in PAGES for block in blocks(page) if block.text.startswith("$ ")]
    return [command for block in shown for command in _typed(block)]


def _typed(block: Block) -> list[Command]:
    is_session = block.text.startswith("$ ")
    typed: list[Command] = []
    for number, line in enumerate(block.text.replace("\\\n", "  ").splitlines(), 1):
        if is_session and not line.startswith("$ "):
            typed[-1].output.append(line)
        elif line.strip():
            text = line.removeprefix("$ ")
            typed.append(Command(block.page, block.line + number, _words(text), block.mark, text))
    return typed


def _words(text: str) -> tuple[str, ...]:
    typed = re.sub(r"\s{2,}# .*", "", text).replace("\n", " ")
    lexer = shlex.shlex(typed, posix=True, punctuation_chars="&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    return tuple(lexer)


def _parts(command: Command) -> Iterator[Command]:
    """A command for each that && or | joins."""
    part: list[str] = []
    for word in (*command.words, "&&"):
        if word in ("&&", "|"):
            yield Command(command.page, command.line, tuple(part), command.mark, command.text, command.output)
            part = []
        else:
            part.append(word)


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Lines and targets of the links and pictures of a page."""
    text = page.read_text("utf-8")
    prose = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    yield from ((_line(prose, match.start()), match[1]) for match in LINK.finditer(prose))


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as code hosts make them."""
    prose = FENCE.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1

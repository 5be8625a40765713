"""The rules of the house, read from the source files: python -m tests.house

It prints every violation with its file and line, and the lengths of the functions. The exit code is 1 where there is
a violation. Nothing is imported from the project, so it is quick and needs no package.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE = ("cifar", "analysis", "benchmarks")
"""The folders with the program's code; run.py belongs to it too."""
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50
MAX_MEDIAN_LINES = 9

ORDER = (
    *("errors", "layout", "cores", "trust", "endings", "commands", "packages", "config_dir", "overrides"),
    *(
        "files",
        "signals",
        "reporting",
        "formatting",
        "durations",
        "intervals",
        "objective",
        "calibration",
        "unsure",
        "results",
    ),
    *("predictions", "content", "options", "trackers", "cache"),
    *("data", "models", "training", "unlike", "classifier", "saved", "initial", "resources", "inputs", "unreadable"),
    *(
        "tasks",
        "building",
        "metadata",
        "trained",
        "comparison",
        "run_data",
        "recording",
        "saving",
        "timed",
        "reliability",
    ),
    *("examples", "leaks", "best_weights", "conclusion"),
    *("auto", "experiment", "compose", "html", "inspection", "sweep", "analysis", "search"),
    *("inference", "predict", "exporting", "export", "serve", "run", "console", "benchmarks"),
)
"""The rooms from the bottom up. A room may import the rooms before it, unless ONLY says less."""
ONLY = {
    "cache": ("cifar.errors", "cifar.endings", "cifar.commands", "cifar.files"),
    "sweep": (
        *("cifar.errors", "cifar.layout", "cifar.cores", "cifar.trust", "cifar.commands", "cifar.packages"),
        *("cifar.overrides", "cifar.config_dir", "cifar.files", "cifar.signals", "cifar.reporting", "cifar.formatting"),
    ),
    "analysis": (
        *("cifar.errors", "cifar.endings", "cifar.commands", "cifar.packages", "cifar.files", "cifar.results"),
        *("cifar.reporting", "cifar.config_dir", "cifar.formatting", "cifar.intervals", "cifar.objective"),
        *("cifar.predictions", "cifar.options.former", "cifar.options.outside", "cifar.html", "cifar.sweep.storage"),
    ),
    "search": (
        *("cifar.errors", "cifar.layout", "cifar.commands", "cifar.files", "cifar.reporting", "cifar.results"),
        *("cifar.content", "cifar.objective", "cifar.options", "cifar.sweep"),
        "analysis",
    ),
}
"""What the rooms that stand beside the training code may import: these modules and those below them."""
IMPORTED_LATE = {"search": "analysis"}
"""What a room may import inside functions only, because run.py imports the room at every start."""

PRIVATE_TO = {"optuna", "hydra", "omegaconf", "hydra_plugins"}
"""The packages whose private names may be used in PRIVATE_NAMES_ARE_IN alone."""
PRIVATE_NAMES_ARE_IN = (Path("cifar/sweep/optuna_private.py"), Path("cifar/options/hydra_private.py"))
NAMEDTUPLE = {"_replace", "_asdict", "_fields", "_make"}
"""Public in spite of their form."""

PHRASES = (
    *("hears? of", "heard of", "(?:is|are|was|were|be|been) told", "tells nobody", "tells? (?:it|you|them|us) of"),
    *("goes on", "go on", "going on", "went on", "gone on"),
    *("what (?:came|comes|became|becomes) of", "of (?:its|their|one's|his|our|your|an?) own", "to oneself"),
    *("held to be", "bury", "buries", "buried", "signs? of life", "deaf", "looks? on", "looks? again", "one too many"),
)
"""Figures of speech that a reader whose first language is not English may not know, as regular expressions."""
VAGUE_NAMES = {"found", "own", "told", "said", "them", "made", "given"}
"""Names of variables that do not say what the variable holds."""
FORMER_NAMES = {
    *("Parts", "Epochs", "Batches", "Watched", "Pulse", "room", "turn", "aside", "again", "located"),
    *("SILENCE", "TRACES", "FRESH"),
}
"""Names that were replaced by the field's words."""


@dataclass(frozen=True)
class Violation:
    """A line that breaks a rule. `path` is relative to the root of the repository."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Import:
    """The import of one name: `module` is its full dotted name, `late` whether it stands inside a function."""

    module: str
    line: int
    late: bool


Violations = Iterator[Violation]
Function = ast.FunctionDef | ast.AsyncFunctionDef


# --- reading the files


def files(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    """The files below the folders, relative to the root of the repository; a folder may be a file too."""
    paths: list[Path] = []
    for folder in folders:
        place = ROOT / folder
        paths += [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.suffix in suffixes)
    return [path.relative_to(ROOT) for path in paths]


def code() -> list[Path]:
    """The program's files in Python."""
    return files(*CODE, "run.py")


def text(path: Path) -> str:
    return (ROOT / path).read_text("utf-8")


def tree(path: Path) -> ast.Module:
    return ast.parse(text(path))


def imports(path: Path) -> Iterator[Import]:
    """Every import in a file. `from a import b` counts as a.b, a name or a module."""
    module = tree(path)
    late = {inner for outer in functions(module) for inner in ast.walk(outer)}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, node in late)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(f"{_base(path, node)}.{alias.name}", node.lineno, node in late)


def _base(path: Path, node: ast.ImportFrom) -> str:
    """The module that `from module import ...` names, without leading dots."""
    package = path.parent.parts[: len(path.parent.parts) - node.level + 1] if node.level else ()
    return ".".join([*package, *filter(None, [node.module])])


def functions(module: ast.Module) -> list[Function]:
    return [node for node in ast.walk(module) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def length(function: Function) -> int:
    """Lines from `def` to the last one."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def room(module: str) -> str | None:
    """The room of a module: "data" for cifar.data.folder; None for cifar itself and for other packages."""
    names = module.split(".")
    if names[0] != "cifar":
        return names[0] if names[0] in (*CODE, "run") else None
    return names[1] if len(names) > 1 else None


def module_of(path: Path) -> str:
    """The dotted name of a file's module."""
    names = path.with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


# --- the rules


def long_files() -> Violations:
    """Files over 350 lines."""
    for path in files(*CODE):
        lines = len(text(path).splitlines())
        if lines > MAX_FILE_LINES:
            yield Violation(path, lines, f"{lines} lines; allowed: {MAX_FILE_LINES}")


def long_functions() -> Violations:
    """Functions over 50 lines, in the tests too."""
    for path in [*code(), *files("tests")]:
        for function in functions(tree(path)):
            if length(function) > MAX_FUNCTION_LINES:
                message = f"{function.name} has {length(function)} lines; allowed: {MAX_FUNCTION_LINES}"
                yield Violation(path, function.lineno, message)


def upward_imports() -> Violations:
    """Imports of a room that stands higher in the list of rooms, or that the room may not know."""
    for path in code():
        importer = room(module_of(path))
        if importer is None:
            for each in imports(path):
                yield Violation(path, each.line, f"imports {each.module}; the package's file imports nothing")
        elif importer not in ORDER:
            yield Violation(path, 1, f"room {importer} is not in ORDER (tests/house.py): add it where it belongs")
        else:
            yield from _upward_imports(path, importer)


def _upward_imports(path: Path, importer: str) -> Violations:
    allowed = ORDER[: ORDER.index(importer)]
    for each in imports(path):
        imported = room(each.module)
        if imported in (None, importer):
            continue
        if imported not in allowed:
            yield Violation(path, each.line, f"{importer} imports {each.module}, which is not below it")
        elif importer in ONLY and not _within(each.module, ONLY[importer]):
            yield Violation(path, each.line, f"{importer} imports {each.module}; allowed: {', '.join(ONLY[importer])}")
        elif IMPORTED_LATE.get(importer) == imported and not each.late:
            yield Violation(path, each.line, f"imports {each.module} at its top; do so in the function that needs it")


def _within(module: str, modules: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{each}.") for each in modules)


def private_names() -> Violations:
    """Private names of Optuna, Hydra and OmegaConf outside of the two files that are for them.

    The type of an object is not known here, so every private attribute counts that its file does not define. Tests that
    import none of the packages are left out: they may need a private name of PyTorch.
    """
    for path in [*code(), *files("tests")]:
        names_in_file = NAMEDTUPLE | {name for _, name in _definitions(path)}
        if path in PRIVATE_NAMES_ARE_IN or (path.parts[0] == "tests" and not _imports_any(path, PRIVATE_TO)):
            continue
        for each in imports(path):
            names = each.module.split(".")
            if names[0] in PRIVATE_TO and any(_is_private(name) for name in names):
                yield Violation(path, each.line, f"imports the private name {each.module}")
        for line, name in _private_attributes(path):
            if name not in names_in_file:
                yield Violation(path, line, f"uses the private name {name}")


def _imports_any(path: Path, packages: set[str]) -> bool:
    return any(each.module.split(".")[0] in packages for each in imports(path))


def _is_private(name: str) -> bool:
    """`_name`; `__name__` and Hydra's settings of the form `_target_` are public."""
    return name.startswith("_") and not name.endswith("_")


def _private_attributes(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and names: each private attribute that is read or set, and each that getattr or a patch names.

    Attributes of a module of another package (torch.cpu._name) are left out.
    """
    others = {name for name, package in _imported_names(path).items() if package not in PRIVATE_TO}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and _root(node) not in others:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and _called(node) in ("getattr", "setattr", "hasattr", "delattr"):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            for name in names[:1]:
                if _is_private(name) and _root(node.args[0]) not in others:
                    yield node.lineno, name


def _imported_names(path: Path) -> dict[str, str]:
    """Each name that a file imports, with the package that it is from."""
    names = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.split(".")[0]
                names[alias.asname or package] = package
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = _base(path, node).split(".")[0]
    return names


def _root(node: ast.AST) -> str | None:
    """The first name of a.b.c."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _called(node: ast.Call) -> str:
    """The last name of the function that is called."""
    return str(getattr(node.func, "attr", "") or getattr(node.func, "id", ""))


def _definitions(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and names: what a file defines or assigns."""
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root(node) == "self":
            yield node.lineno, node.attr


def quaint_words() -> Violations:
    """Figures of speech, vague names of variables, and names that were replaced."""
    for path in _worded():
        yield from _quaint_phrases(path)
        if path.suffix == ".py":
            for line, name in _definitions(path):
                if name in VAGUE_NAMES:
                    yield Violation(path, line, f"the name {name} does not say what it holds")
                elif name in FORMER_NAMES:
                    yield Violation(path, line, f"the name {name} was replaced by a word of the field")


def _worded() -> list[Path]:
    """The files whose wording is checked: all but this one, which lists the phrases."""
    suffixes = (".py", ".md", ".yaml", ".jinja")
    paths = files(
        *CODE, "run.py", "conf", "tests", "examples", "docs", "README.md", "CONTRIBUTING.md", suffixes=suffixes
    )
    return [path for path in paths if path.name not in ("house.py", "test_house.py")]


def _quaint_phrases(path: Path) -> Violations:
    gap = r"[\s#]+"  # a phrase may continue on the next line, in a comment too
    pattern = "|".join(phrase.replace(" ", gap) for phrase in PHRASES)
    for match in re.finditer(rf"\b(?:{pattern})\b", text(path), flags=re.IGNORECASE):
        line = text(path).count("\n", 0, match.start()) + 1
        yield Violation(path, line, f'"{" ".join(match[0].split())}": write it plainly')


RULES: dict[str, Callable[[], Violations]] = {
    "files over 350 lines": long_files,
    "functions over 50 lines": long_functions,
    "imports from above": upward_imports,
    "private names of Optuna and Hydra": private_names,
    "quaint words": quaint_words,
}


def function_lengths() -> list[int]:
    """Lines of every function of the program, sorted."""
    return sorted(length(function) for path in code() for function in functions(tree(path)))


def main() -> int:
    """Print all; the exit code."""
    broken = False
    for name, rule in RULES.items():
        violations = sorted(rule(), key=str)
        print(f"{name}: {len(violations) or 'none'}")
        for violation in violations:
            print(f"  {violation}")
        broken |= bool(violations)
    lengths = function_lengths()
    median = statistics.median(lengths)
    p90 = lengths[len(lengths) * 9 // 10]
    print(
        f"{len(lengths)} functions: median {median:g} lines, 9 of 10 at most {p90}; allowed: median {MAX_MEDIAN_LINES}"
    )
    return int(broken or median > MAX_MEDIAN_LINES)


if __name__ == "__main__":
    sys.exit(main())

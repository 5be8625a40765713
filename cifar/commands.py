"""Commands that are printed: quoted for Hydra and for the shell, they work when pasted where they were printed.

They begin as this program was started: python run.py and python -m analysis.report, or cifar-search and cifar-report.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from cifar import layout, trust

PLAIN = re.compile(r"[\w./+-]*[A-Za-z_/][\w./+-]*", re.ASCII)
"""Values that Hydra reads as they are; numbers and the words of KEYWORDS have a meaning for it."""
NUMBER = re.compile(r"[-+]?[\d_.]+([eE][-+]?\d+)?|[-+]?(inf|nan)", re.IGNORECASE)
KEYWORDS = ("null", "true", "false")
RUN = "run.py"
"""The script that cifar-search stands for."""
CONSOLE = tuple(
    f"cifar-{name}" for name in ("search", "summary", "report", "predict", "export", "serve", "cache", "inspect")
)
"""The console commands that setup.cfg lists. Each but the first stands for a module whose name ends as it does, or as
NAMES says."""
NAMES = {"inspection": "inspect"}
WRITTEN = re.compile(r"python (?:run\.py|-m ((?:cifar|analysis)(?:\.\w+)+))(?![\w/])")
"""A command of this program in a text."""


def command(*arguments: str, script: str = RUN, with_trust: bool = True) -> str:
    """The command line that runs a script of this program; `arguments` are overrides and options of Hydra.

    `with_trust`: it trusts the modules that this process trusts. Leave it out of what is written for others.
    """
    modules = trust.granted()[0] if with_trust else ()
    granted = [f"trust=[{','.join(modules)}]"] if modules else []
    return shlex.join([*_program(script), *arguments, *granted])


def module_command(module: str, *arguments: str, with_trust: bool = False) -> str:
    """The command line of python -m MODULE, as "cifar.predict", or of the console command that stands for it.

    Without arguments it is how the module is started, for its --help and for messages. `with_trust`: as in `command`.
    """
    modules = trust.granted()[0] if with_trust else ()
    granted = [word for name in modules for word in ("--trust", name)]
    return shlex.join([*_module_program(module), *arguments, *granted])


def as_started(text: str) -> str:
    """A text with its commands (python run.py, python -m cifar.cache) as this program was started."""
    return WRITTEN.sub(lambda match: module_command(match[1]) if match[1] else shlex.join(_program(RUN)), text)


def install(extra: str) -> str:
    """The command that installs the packages of an extra of this program."""
    return f"pip install 'cifar-search[{extra}]'" if layout.INSTALLED else f"pip install -e '.[{extra}]'"


def argument(key: str, value: object) -> str:
    """An override as a word of the shell, for a message that names no whole command."""
    return shlex.quote(override(key, value))


def override(key: str, value: object) -> str:
    """key=value for Hydra, quoted where that is needed."""
    text = str(value)
    is_plain = PLAIN.fullmatch(text) and not NUMBER.fullmatch(text) and text.lower() not in KEYWORDS
    return f"{key}={text if is_plain else quoted(text)}"


def quoted(text: str) -> str:
    """A text as the value of an override: Hydra reads it back as it is, and OmegaConf interpolates nothing in it."""
    literal = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    quote = "'" if '"' in literal else '"'
    escaped = re.sub(rf"(\\*)({quote}|$)", lambda match: match[1] * 2 + (f"\\{quote}" if match[2] else ""), literal)
    return f"{quote}{escaped}{quote}"


def _program(script: str) -> list[str]:
    """The words that start a script: as it was called; from another program, as the program is installed."""
    called = Path(sys.argv[0])
    if called.name == script and called.is_file():
        return [_python(), str(called)]
    if script == RUN and (layout.INSTALLED or _is_console()):
        return [_console(CONSOLE[0])]
    beside = layout.ROOT / script  # where there is none in the working directory
    return [_python(), script if Path(script).is_file() or not beside.is_file() else str(beside)]


def _module_program(module: str) -> list[str]:
    last = module.rpartition(".")[2]
    name = f"cifar-{NAMES.get(last, last)}"
    if name in CONSOLE and _is_console():
        return [_console(name)]
    if module.startswith("analysis.") and layout.INSTALLED:
        module = f"cifar.{module}"
    return [_python(), "-m", module]


def _is_console() -> bool:
    """Whether this process was started as one of the console commands; its workers have its sys.argv."""
    return Path(sys.argv[0]).stem in CONSOLE


def _console(name: str) -> str:
    """A console command: its name, where the shell would start the one of this installation, else its path."""
    beside = Path(sys.argv[0] if _is_console() else sys.executable).absolute()
    file = beside.with_name(name + beside.suffix if _is_console() else name)
    on_path = shutil.which(name)
    same = on_path is not None and Path(on_path).absolute().parent == file.parent
    return name if same or not file.is_file() else str(file)


def _python() -> str:
    """How this interpreter is called: python, where the shell would start the same one."""
    on_path = shutil.which("python")
    same = on_path is not None and Path(on_path).parent == Path(sys.executable).parent
    return "python" if same or not sys.executable else sys.executable

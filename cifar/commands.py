"""Commands that are printed: quoted for Hydra and for the shell, they work when pasted where they were printed."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from cifar import trust

PLAIN = re.compile(r"[\w./+-]*[A-Za-z_/][\w./+-]*", re.ASCII)
"""Values that Hydra reads as they are; numbers and the words of KEYWORDS have a meaning for it."""
NUMBER = re.compile(r"[-+]?[\d_.]+([eE][-+]?\d+)?|[-+]?(inf|nan)", re.IGNORECASE)
KEYWORDS = ("null", "true", "false")


def command(*arguments: str, script: str = "run.py", with_trust: bool = True) -> str:
    """The command line that runs a script of this program; `arguments` are overrides and options of Hydra.

    `with_trust`: it trusts the modules that this process trusts. Leave it out of what is written for others.
    """
    modules = trust.granted()[0] if with_trust else ()
    granted = [f"trust=[{','.join(modules)}]"] if modules else []
    return shlex.join([_python(), _path_of(script), *arguments, *granted])


def module_command(module: str, *arguments: str) -> str:
    """The command line of python -m MODULE."""
    return shlex.join([_python(), "-m", module, *arguments])


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


def _python() -> str:
    """How this interpreter is called: python, where the shell would start the same one."""
    on_path = shutil.which("python")
    same = on_path is not None and Path(on_path).parent == Path(sys.executable).parent
    return "python" if same or not sys.executable else sys.executable


def _path_of(script: str) -> str:
    """The script as it was called; from another program, the one in the working directory, else the package's."""
    called = Path(sys.argv[0])
    if called.name == script and called.is_file():
        return str(called)
    beside = Path(__file__).parents[1] / script
    return script if Path(script).is_file() or not beside.is_file() else str(beside)

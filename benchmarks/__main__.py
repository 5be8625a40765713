"""python -m benchmarks lists the benchmarks; python -m benchmarks NAME [options] runs one."""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import ast
import importlib
import sys
from pathlib import Path

HELPERS = ("__init__", "__main__", "common", "paths", "plain", "sweep_app", "sweep_runs", "typed")


def main(arguments: list[str]) -> None:
    modules = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem not in HELPERS}
    if arguments and arguments[0] in modules:
        importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
        return
    print("python -m benchmarks NAME [options], where NAME is")
    for name, path in modules.items():
        print(f"  {name:<12} {(ast.get_docstring(ast.parse(path.read_text('utf-8'))) or '').splitlines()[0]}")
    if arguments and arguments[0] not in ("-h", "--help"):
        sys.exit(f"error: {arguments[0]}: no such benchmark")


if __name__ == "__main__":
    endings.run(main)
